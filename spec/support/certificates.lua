-- Keys and certificates for specs, made by the openssl command in a folder of their own.

local certificates = {}

local Folder = {}
Folder.__index = Folder

local function shell(command)
  local pipe = assert(io.popen("{ " .. command .. "; } 2>&1"))
  local output = pipe:read("a")
  assert(pipe:close(), output)
end

local function write(path, text)
  local file <close> = assert(io.open(path, "w"))
  file:write(text)
end

--- A new folder; `folder:remove()` deletes it.
function certificates.folder()
  local path = os.tmpname()
  os.remove(path)
  shell(("mkdir '%s'"):format(path))
  return setmetatable({ path = path, serial = 0 }, Folder)
end

function Folder:remove()
  shell(("rm -r '%s'"):format(self.path))
end

--- The path of a file in it: "ca.pem", "ca.key".
function Folder:file(name)
  return self.path .. "/" .. name
end

--- A root: NAME.pem and NAME.key.
function Folder:root(name)
  shell(([[cd '%s' && openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes \
    -keyout %s.key -out %s.pem -days 30 -subj '/CN=%s']]):format(self.path, name, name, name))
end

-- What stands in a certificate of the options given to issue.
local function extensions(options)
  local lines = { "basicConstraints = CA:" .. (options.ca and "TRUE" or "FALSE") }
  if options.names then
    lines[#lines + 1] = "subjectAltName = " .. options.names
  end
  if options.purpose then
    lines[#lines + 1] = "extendedKeyUsage = " .. options.purpose
  end
  return table.concat(lines, "\n") .. "\n"
end

--- NAME.pem and NAME.key, issued by a root. Options: `by` (the root, "ca"), `names` ("DNS:a,..."),
--- `purpose` ("clientAuth"), `ca` (may issue others), `expired`, `password` (of the key).
function Folder:issue(name, options)
  options = options or {}
  self.serial = self.serial + 1
  write(self:file(name .. ".ext"), extensions(options))
  local by = options.by or "ca"
  local days = options.expired and "-days -1" or "-days 30"
  shell(([[cd '%s' && openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes \
    -keyout %s.key -out %s.csr -subj '/CN=%s' && openssl x509 -req -in %s.csr -CA %s.pem \
    -CAkey %s.key -set_serial %d %s -extfile %s.ext -out %s.pem]]):format(
    self.path, name, name, name, name, by, by, self.serial, days, name, name))
  if options.password then
    shell(([[cd '%s' && openssl ec -in %s.key -aes256 -passout pass:%s -out %s.new && \
      mv %s.new %s.key]]):format(self.path, name, options.password, name, name, name))
  end
end

--- Parameters of an end with that certificate, for newcontext.
function Folder:params(mode, name, more)
  local params = { mode = mode }
  if name then
    params.certificate, params.key = self:file(name .. ".pem"), self:file(name .. ".key")
  end
  if mode == "client" then
    params.cafile = self:file("ca.pem")
  end
  for field, value in pairs(more or {}) do
    params[field] = value
  end
  return params
end

return certificates
