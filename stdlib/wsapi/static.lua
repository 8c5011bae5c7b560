-- Files of a folder as a WSAPI application.

local body = require "moonlet.wsapi.body"
local core = require "moonlet.wsapi.core"
local httpdate = require "moonlet.wsapi.httpdate"
local types = require "moonlet.wsapi.types"

-- A file up to this size goes out together with the head.
local SMALL = 65536

-- ---- paths ----

-- The parts of a path, or nil if it may not be asked for: ".." leads out of the folder, and a
-- name that begins with a dot is hidden.
local function split(path, hidden)
  local parts = {}
  for part in path:gmatch("[^/]+") do
    if part == ".." or part == "." or part:find("\0", 1, true) or
       not hidden and part:sub(1, 1) == "." then
      return nil
    end
    parts[#parts + 1] = part
  end
  return parts
end

local function escape(char)
  return ("%%%02X"):format(char:byte())
end

-- The path of a folder for Location. Made from its parts, since "//host/" would be another host.
local function location(env, parts)
  local path = "/" .. table.concat(parts, "/") .. "/"
  local query = env.QUERY_STRING
  return env.SCRIPT_NAME .. path:gsub("[^%w/._~!$&'()*+,;=:@-]", escape) ..
         (query ~= "" and "?" .. query or "")
end

local function content_type(name, own)
  local ending = name:match("%.([^./]+)$")
  ending = ending and ending:lower()
  local kind = ending and (own[ending] or types[ending]) or "application/octet-stream"
  if kind:find("^text/") and not kind:find(";", 1, true) then
    return kind .. "; charset=utf-8"
  end
  return kind
end

-- ---- conditions (RFC 9110, section 13) ----

-- Whether a list of entity tags has this one; for If-None-Match weak ones count too.
local function lists(list, tag, weak)
  if list:match("^%s*(.-)%s*$") == "*" then
    return true
  end
  for prefix, other in list:gmatch('(W?/?)("[^"]*")') do
    if other == tag and (weak or prefix == "") then
      return true
    end
  end
  return false
end

-- Whether the file's time is not after that of the header; nil if the header is no date.
local function is_old(header, time)
  local limit = httpdate.parse(header)
  return limit and time <= limit
end

-- The status that the request's conditions lead to, or nil.
local function condition(env, tag, time)
  if env.HTTP_IF_MATCH then
    if not lists(env.HTTP_IF_MATCH, tag, false) then
      return 412
    end
  elseif env.HTTP_IF_UNMODIFIED_SINCE and is_old(env.HTTP_IF_UNMODIFIED_SINCE, time) == false then
    return 412
  end
  if env.HTTP_IF_NONE_MATCH then
    return lists(env.HTTP_IF_NONE_MATCH, tag, true) and 304 or nil
  elseif env.HTTP_IF_MODIFIED_SINCE then
    return is_old(env.HTTP_IF_MODIFIED_SINCE, time) and 304 or nil
  end
end

-- ---- ranges (RFC 9110, section 14) ----

-- Whether the part that the client has is one of this very file.
local function range_holds(env, tag, time)
  local header = env.HTTP_IF_RANGE
  return not header or header == tag or httpdate.parse(header) == time
end

-- First byte and count of the one range that is asked for; false if the file has none of it, nil
-- if the whole file is to be sent: several ranges, or what is not understood.
local function range(header, size)
  local first, last = header:lower():match("^bytes=%s*(%d*)%s*-%s*(%d*)%s*$")
  first, last = tonumber(first), tonumber(last) -- huge ones are floats, and beyond any size
  if first then
    last = math.min(last or size - 1, size - 1)
    if first >= size then
      return false
    end
    return first <= last and first or nil, last - first + 1
  elseif last then
    last = math.min(last, size)
    return last > 0 and size - last, last
  end
end

-- ---- answers ----

local function plain(status, headers)
  headers = headers or {}
  headers["Content-Type"] = "text/plain; charset=utf-8"
  return status, headers, ("%d %s\n"):format(status, core.reason(status))
end

-- The part of a file as a body, which closes it.
local function part(file, offset, count)
  if count > SMALL then
    return body.file(file, offset, count)
  end
  local _ <close> = file
  file:seek("set", offset)
  return file:read(count) or ""
end

local function send(env, file, size, headers, tag, time)
  local wanted = env.HTTP_RANGE
  local offset, count
  if wanted and env.REQUEST_METHOD == "GET" and range_holds(env, tag, time) then
    offset, count = range(wanted, size)
    if offset == false then
      file:close()
      return plain(416, { ["Content-Range"] = "bytes */" .. size })
    end
  end
  if not offset then
    headers["Content-Length"] = size
    return 200, headers, part(file, 0, size)
  end
  headers["Content-Length"] = count
  headers["Content-Range"] = ("bytes %d-%d/%d"):format(offset, offset + count - 1, size)
  return 206, headers, part(file, offset, count)
end

local function serve(env, name, opened, opts)
  local file, size, time, fraction = table.unpack(opened)
  local tag = ('"%x-%x-%x"'):format(time, fraction, size)
  local headers = { ETag = tag, ["Last-Modified"] = httpdate.format(time),
                    ["Cache-Control"] = opts.cache_control }
  local status = condition(env, tag, time)
  if status then
    file:close()
    if status == 304 then
      return 304, headers
    end
    return plain(status, headers)
  end
  headers["Content-Type"] = content_type(name, opts.types or {})
  headers["Accept-Ranges"] = "bytes"
  return send(env, file, size, headers, tag, time)
end

local function answer(root, opts, env)
  local method, path = env.REQUEST_METHOD, env.PATH_INFO
  if method ~= "GET" and method ~= "HEAD" then
    return plain(405, { Allow = "GET, HEAD" })
  end
  local parts = split(path, opts.hidden)
  if not parts then
    return plain(404)
  end
  local name, is_folder = root .. "/" .. table.concat(parts, "/"), path:sub(-1) == "/"
  if is_folder then
    name = name .. "/" .. (opts.index or "index.html")
  end
  local opened = { core.open(name) }
  if opened[1] then
    return serve(env, name, opened, opts)
  elseif opened[2] == "directory" and not is_folder then
    return plain(301, { Location = location(env, parts) })
  elseif opened[3] == 13 then -- EACCES
    return plain(403)
  end
  return plain(404)
end

--- wsapi.static(root [, opts]): an application that serves the files of a folder.
-- It answers GET and HEAD, knows ranges, conditional requests and If-Range. Large files go from the
-- kernel's cache to the socket directly. Nothing outside of the folder can be asked for, unless a
-- symbolic link in it leads there. Options:
--
--     index          the file that stands for a folder ("index.html")
--     hidden         whether names that begin with a dot are served too (false)
--     types          content types by the ending of a name, beside those known
--     cache_control  the value of the header Cache-Control
--
--     wsapi.WSAPIServer(8000, wsapi.static("public")):serve_forever()
---@param root string the folder
---@param opts? table
---@return function # the application
local function static(root, opts)
  if type(root) ~= "string" then
    error(("bad argument #1 to 'static' (string expected, got %s)"):format(type(root)), 2)
  end
  opts = opts or {}
  return function(env)
    return answer(root, opts, env)
  end
end

return static
