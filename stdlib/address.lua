--- Addresses of servers, in all the forms in which people write them.

local address = {}

local function rubbish(value, why)
  local shown = type(value) == "string" and ("%q"):format(value) or tostring(value)
  return nil, ("invalid address %s (%s)"):format(shown, why)
end

local function to_port(value)
  local port = math.tointeger(tonumber(value))
  return port and port >= 0 and port <= 65535 and port or nil
end

-- Host and port in "host:port", "[v6]:port", ":port", "*:port", "port".
local function split(text)
  local host, link, port = text:match("^%[([%x:.]*:[%x:.]*)(%%?[^%]]*)%]:(%d+)$")
  if host and (link == "" or link:match("^%%.")) then
    return host .. link, port
  end
  host, port = text:match("^([^:%[%]]*):(%d+)$")
  return host or "", port or text:match("^%d+$")
end

local function parse_text(text)
  local path = text:match("^unix:(.+)$")
  if path then
    return { path = path }
  end
  local host, port = split(text)
  if not port then
    return rubbish(text, "expected host:port, [v6]:port, :port or unix:path")
  elseif not to_port(port) then
    return rubbish(text, "port out of range")
  elseif host:find("\0", 1, true) then
    return rubbish(text, "host contains a NUL")
  end
  return { host = host, port = to_port(port) }
end

local function parse_table(value)
  local host, port = value.host or value[1] or "", value.port or value[2]
  if value.path ~= nil then
    if type(value.path) ~= "string" or value.path == "" then
      return rubbish(value, "the path must be a string that is not empty")
    end
    return { path = value.path }
  elseif type(host) ~= "string" then
    return rubbish(value, "the host must be a string")
  elseif host:find("\0", 1, true) then
    return rubbish(value, "host contains a NUL")
  elseif not to_port(port) then
    return rubbish(value, "port expected, 0 to 65535")
  end
  return { host = host, port = to_port(port) }
end

local function parse_number(value)
  if not to_port(value) then
    return rubbish(value, "port out of range")
  end
  return { host = "", port = to_port(value) }
end

local parsers = { number = parse_number, string = parse_text, table = parse_table }

--- Reads an address: a port, "host:port", "[v6]:port", ":port", "*:port", "unix:/path", or a
-- table {host, port}, {host=, port=} or {path=}. A host of "*" or none means any.
---@param value string|integer|table
---@return table|nil # { host = string ("" for any), port = integer } or { path = string }
---@return string # or what is wrong with it
function address.parse(value)
  local parser = parsers[type(value)]
  if not parser then
    return rubbish(value, "address expected, got " .. type(value))
  end
  local parsed, problem = parser(value)
  if parsed and parsed.host == "*" then
    parsed.host = ""
  end
  return parsed, problem
end

return address
