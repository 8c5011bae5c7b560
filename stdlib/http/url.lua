--- URLs as HTTP clients need them (RFC 3986).

local url = {}

local PORTS = { http = 80, https = 443, ws = 80, wss = 443 }

-- What may not stand in a URL is escaped; what is escaped stays as it is.
local function clean(text)
  return (text:gsub("[^%w%-._~:/?%[%]@!$&'()*+,;=%%]", function(byte)
    return ("%%%02X"):format(byte:byte())
  end))
end

-- "user:password@[host]:port"
local function split_authority(authority)
  local user, rest = authority:match("^(.*)@(.*)$")
  rest = rest or authority
  local host, port = rest:match("^%[([%x:.%%%w]+)%]:?(%d*)$")
  if not host then
    host, port = rest:match("^([^:%[%]]+):?(%d*)$")
  end
  return user, host, port
end

--- Takes an absolute URL apart.
---@param text string
---@return table|nil # scheme, user, host, port, path ("/" at least), query, target (path and query)
---@return string # or what is wrong with it
function url.parse(text)
  local scheme, authority, rest = text:match("^(%a[%w+.-]*)://([^/?#]*)([^#]*)")
  if not scheme then
    return nil, ("invalid URL %q (scheme://host expected)"):format(text)
  end
  scheme = scheme:lower()
  local user, host, port = split_authority(authority)
  if not host or host:find("[%c%s]") then
    return nil, ("invalid URL %q (host expected)"):format(text)
  end
  port = port ~= "" and math.tointeger(tonumber(port)) or PORTS[scheme]
  if not port or port < 1 or port > 65535 then
    return nil, ("invalid URL %q (port out of range)"):format(text)
  end
  local path, query = rest:match("^([^?]*)%??(.*)$")
  path = path == "" and "/" or clean(path)
  local target = rest:find("?", 1, true) and path .. "?" .. clean(query) or path
  return {
    scheme = scheme,
    user = user,
    host = host:lower(),
    port = port,
    path = path,
    query = query,
    target = target,
  }
end

--- The host as the Host field and URLs have it: with the port where it is not the scheme's own.
---@param parts table  of url.parse
---@return string
function url.authority(parts)
  local host = parts.host:find(":", 1, true) and "[" .. parts.host .. "]" or parts.host
  if parts.port == PORTS[parts.scheme] then
    return host
  end
  return host .. ":" .. parts.port
end

--- A URL from its parts, without the user.
---@param parts table  of url.parse
---@return string
function url.build(parts)
  return parts.scheme .. "://" .. url.authority(parts) .. parts.target
end

-- RFC 3986 5.2.4
local function remove_dots(path)
  local kept = {}
  for segment, slash in path:gmatch("([^/]*)(/?)") do
    if segment == ".." then
      table.remove(kept)
    elseif segment ~= "." and (segment ~= "" or slash ~= "") then
      kept[#kept + 1] = segment .. slash
    end
  end
  return "/" .. table.concat(kept):gsub("^/", "")
end

--- The URL that a reference means where it stands (RFC 3986 5.2).
---@param base table  of url.parse
---@param reference string
---@return string
function url.resolve(base, reference)
  reference = reference:gsub("#.*$", "")
  if reference:find("^%a[%w+.-]*:") then
    return reference
  end
  if reference:sub(1, 2) == "//" then
    return base.scheme .. ":" .. reference
  end
  local origin = base.scheme .. "://" .. url.authority(base)
  if reference == "" then
    return origin .. base.target
  end
  if reference:sub(1, 1) == "?" then
    return origin .. base.path .. reference
  end
  local path, query = reference:match("^([^?]*)(.*)$")
  if path:sub(1, 1) ~= "/" then
    path = base.path:match("^(.*/)") .. path
  end
  return origin .. remove_dots(path) .. query
end

--- Decodes %XX.
---@param text string
---@return string
function url.unescape(text)
  return (text:gsub("%%(%x%x)", function(digits)
    return string.char(tonumber(digits, 16))
  end))
end

return url
