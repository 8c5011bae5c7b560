-- URLs as an HTTP client needs them (RFC 3986).

local url = {}

local PORTS = { http = 80, https = 443 }

local MAX_HOST = 253 -- bytes, of a name in the DNS

-- What may not stand in a URL is escaped; what is escaped stays as it is.
local function clean(text)
  return (text:gsub("[^%w%-._~:/?%[%]@!$&'()*+,;=%%]", function(byte)
    return ("%%%02X"):format(byte:byte())
  end))
end

-- Decodes %XX.
function url.unescape(text)
  return (text:gsub("%%(%x%x)", function(digits)
    return string.char(tonumber(digits, 16))
  end))
end

-- "[host]:port"; of a host with a zone "[fe80::1%25eth0]:port".
local function split_brackets(text)
  local host, port = text:match("^%[([%x:.]+[%%%w._~-]*)%]:?(%d*)$")
  local address, zone = (host or ""):match("^([%x:.]+)%%25([%w._~-]+)$")
  if address then
    return address .. "%" .. zone, port
  elseif host and host:find("^[%x:.]+$") and host:find(":", 1, true) then
    return host, port
  end
end

-- "user:password@host:port"
local function split_authority(authority)
  local user, rest = authority:match("^(.*)@(.*)$")
  rest = rest or authority
  local host, port = split_brackets(rest)
  if not host then
    host, port = rest:match("^([%w._~!$&'()*+,;=-]+):?(%d*)$")
  end
  return user, host, port
end

-- Takes an absolute URL apart: a table with scheme, user, host, port, path ("/" at least), query
-- and target (path and query); or nil and what is wrong with it.
function url.parse(text)
  local scheme, authority, rest = text:match("^(%a[%w+.-]*)://([^/?#]*)([^#]*)")
  if not scheme then
    return nil, ("invalid URL %q (scheme://host expected)"):format(text)
  end
  scheme = scheme:lower()
  local user, host, port = split_authority(authority)
  if not host or #host > MAX_HOST or authority:find("[%c%s\\]") then
    return nil, ("invalid URL %q (host expected)"):format(text)
  end
  if port == "" and not PORTS[scheme] then
    return nil, ("invalid URL %q (unknown scheme)"):format(text)
  end
  port = port ~= "" and math.tointeger(tonumber(port)) or port == "" and PORTS[scheme]
  if not port or port < 1 or port > 65535 then
    return nil, ("invalid URL %q (port out of range)"):format(text)
  end
  local path, mark, query = rest:match("^([^?]*)(%??)(.*)$")
  path, query = path == "" and "/" or clean(path), clean(query)
  return {
    scheme = scheme,
    user = user,
    host = host:lower(),
    port = port,
    path = path,
    query = query,
    target = path .. mark .. query,
  }
end

local function in_brackets(host)
  return host:find(":", 1, true) and "[" .. host:gsub("%%.*$", "") .. "]" or host
end

-- "host:port", always with the port.
function url.endpoint(parts)
  return in_brackets(parts.host) .. ":" .. parts.port
end

-- The host as the Host field has it: with the port where it is not the scheme's own.
function url.authority(parts)
  return parts.port == PORTS[parts.scheme] and in_brackets(parts.host) or url.endpoint(parts)
end

-- "scheme://host:port": who answers.
function url.origin(parts)
  return parts.scheme .. "://" .. url.authority(parts)
end

-- A URL from its parts, without the user.
function url.build(parts)
  return url.origin(parts) .. parts.target
end

-- RFC 3986 5.2.4
local function remove_dots(path)
  local kept = {}
  for segment, slash in path:gmatch("([^/]*)(/?)") do
    if segment == ".." then
      if #kept > 1 then
        table.remove(kept)
      end
    elseif segment ~= "." and (segment ~= "" or slash ~= "") then
      kept[#kept + 1] = segment .. slash
    end
  end
  return table.concat(kept)
end

-- The URL that a reference means where it stands (RFC 3986 5.2).
function url.resolve(base, reference)
  reference = reference:gsub("#.*$", "")
  if reference:find("^%a[%w+.-]*:") then
    return reference
  elseif reference:sub(1, 2) == "//" then
    return base.scheme .. ":" .. reference
  end
  local origin = url.origin(base)
  if reference == "" then
    return origin .. base.target
  elseif reference:sub(1, 1) == "?" then
    return origin .. base.path .. reference
  end
  local path, query = reference:match("^([^?]*)(.*)$")
  if path:sub(1, 1) ~= "/" then
    path = base.path:match("^(.*/)") .. path
  end
  return origin .. remove_dots(path) .. query
end

return url
