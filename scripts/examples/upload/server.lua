-- Files that are uploaded by a form, and go to the disk as they come.
--
--     moonlet scripts/examples/upload/server.lua FOLDER [PORT]
--
-- and then http://127.0.0.1:8000/ in a browser, or
--
--     curl -F file=@FILE http://127.0.0.1:8000/
--
-- A piece of the file at a time is in memory, however large the file is; and only the greenlet
-- that writes waits for the disk.

local folder = arg[0]:match("^(.*/)") or "./"
package.path = folder .. "?.lua;" .. package.path

local files = require "moonlet.os"
local multipart = require "multipart"
local wsapi = require "moonlet.wsapi"

local PORT = 8000
local MAX_SIZE = 16 << 30 -- bytes of a request

local store = arg[1]
if not store then
  io.stderr:write("usage: server.lua FOLDER [PORT]\n")
  os.exit(2)
end

-- ---- storing ----

-- A file that is removed unless it was kept.
local Draft = {}
Draft.__index = Draft

local function draft(path)
  local file, problem = files.open(path, "wb")
  return setmetatable({ path = path, file = assert(file, problem) }, Draft)
end

function Draft:keep(name)
  assert(self.file:close())
  assert(os.rename(self.path, name))
  self.path = nil
end

function Draft:__close()
  if self.path then
    self.file:close()
    os.remove(self.path)
  end
end

local stored = 0

-- A name of our own, with what is harmless in the user's.
local function new_name(filename)
  stored = stored + 1
  local harmless = filename:match("[^/\\]*$"):gsub("[^%w._-]", "_"):gsub("^%.+", ""):sub(-100)
  return ("%d-%d-%s"):format(os.time(), stored, harmless)
end

-- Stores a file; its new name, and its size.
local function store_part(reader, filename)
  local name, size = new_name(filename), 0
  local path = store .. "/" .. name
  local target <close> = draft(path .. ".part")
  for piece in reader.content, reader do
    assert(target.file:write(piece))
    size = size + #piece
  end
  target:keep(path)
  return name, size
end

-- Stores all files of a form; a line about each.
local function store_all(reader)
  local lines = {}
  for part in reader.part, reader do
    if part.filename and part.filename ~= "" then
      local name, size = store_part(reader, part.filename)
      table.insert(lines, ("%s: %d bytes\n"):format(name, size))
    end
  end
  return lines
end

-- ---- the server ----

local TEXT = { ["Content-Type"] = "text/plain; charset=utf-8" }

local function upload(env)
  local kind = env.CONTENT_TYPE or ""
  local boundary = kind:match('^multipart/form%-data.*[;%s]boundary="([^"]+)"') or
                   kind:match("^multipart/form%-data.*[;%s]boundary=([^%s;\"]+)")
  if not boundary or #boundary > 70 then
    return 415, TEXT, "multipart/form-data is expected\n"
  end
  local reader = multipart.new(function(count)
    return env.input:read(count)
  end, boundary)
  local ok, result = pcall(store_all, reader)
  if ok then
    return 201, TEXT, result
  elseif type(result) == "table" and result.problem then
    return 400, TEXT, result.problem .. "\n"
  end
  error(result, 0)
end

local function page()
  local file <close> = assert(io.open(folder .. "page.html"))
  return file:read("a")
end

local function app(env)
  if env.REQUEST_METHOD == "POST" then
    return upload(env)
  end
  return 200, { ["Content-Type"] = "text/html; charset=utf-8" }, page()
end

local server = wsapi.WSAPIServer({ "127.0.0.1", tonumber(arg[2] or PORT) }, app,
                                 { log = false, max_body = MAX_SIZE })
assert(server:start())
print(("Listening on http://127.0.0.1:%d/"):format(server.address[2]))
io.stdout:flush()
server:serve_forever()
