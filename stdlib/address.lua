--- Addresses of servers, in all the forms in which people write them.

local address = {}

local function rubbish(value, why)
  local shown = type(value) == "string" and ("%q"):format(value) or tostring(value)
  return nil, ("invalid address %s (%s)"):format(shown, why)
end

local function to_port(text)
  local port = math.tointeger(tonumber(text))
  return port and port >= 0 and port <= 65535 and port or nil
end

-- "host:port", "[v6]:port", ":port", "*:port", "port"
local function parse_text(text)
  local path = text:match("^unix:(.+)$")
  if path then
    return { path = path }
  end
  local host, port = text:match("^%[([%x:.%%%w]+)%]:(%d+)$")
  if not host then
    host, port = text:match("^([^:]*):(%d+)$")
  end
  if not host then
    host, port = "", text:match("^%d+$")
  end
  if not port then
    return rubbish(text, "expected host:port, [v6]:port, :port or unix:path")
  end
  if not to_port(port) then
    return rubbish(text, "port out of range")
  end
  return { host = host, port = to_port(port) }
end

local function parse_table(value)
  local host, port = value.host or value[1], value.port or value[2]
  if value.path then
    return { path = value.path }
  end
  if host ~= nil and type(host) ~= "string" then
    return rubbish(value, "the host must be a string")
  end
  if not to_port(port) then
    return rubbish(value, "port expected")
  end
  return { host = host or "", port = to_port(port) }
end

--- Reads an address: a port, "host:port", "[v6]:port", ":port", "*:port", "unix:/path", or a
-- table {host, port}, {host=, port=} or {path=}. A host of "*" or none means any.
---@param value string|integer|table
---@return table|nil # { host = string ("" for any), port = integer } or { path = string }
---@return string # or what is wrong with it
function address.parse(value)
  local parsed, problem
  if math.type(value) == "integer" then
    parsed, problem = parse_text(tostring(value))
  elseif type(value) == "string" then
    parsed, problem = parse_text(value)
  elseif type(value) == "table" then
    parsed, problem = parse_table(value)
  else
    return rubbish(value, "address expected, got " .. type(value))
  end
  if parsed and parsed.host == "*" then
    parsed.host = ""
  end
  return parsed, problem
end

return address
