-- Making connections: to a server, or through a proxy; then TLS.

local Connection = require "moonlet.http.connection"
local deadline = require "moonlet.http.deadline"
local socket = require "moonlet.socket"
local url = require "moonlet.http.url"

local rest = deadline.rest

-- Closes what it holds at the end of the block.
local Guard = {
  __close = function(guard)
    if guard.held then
      guard.held:close()
    end
  end,
}

local function guarding(held)
  return setmetatable({ held = held }, Guard)
end

-- Has the proxy join the two ends: true, or nil and why not.
local function open_tunnel(stream, parts, proxy, due)
  local endpoint = url.endpoint(parts)
  local head = ("CONNECT %s HTTP/1.1\r\nHost: %s\r\n"):format(endpoint, endpoint)
  if proxy.authorization then
    head = head .. "Proxy-Authorization: " .. proxy.authorization .. "\r\n"
  end
  local connection = Connection.new(stream)
  connection.parser:skip_body()
  local ok, message = connection:send(head .. "\r\n", due)
  if ok then
    ok, message = connection:read_head({}, due)
  end
  if not ok then
    return nil, "the proxy fails: " .. message
  end
  local status = connection.parser:status()
  if status < 200 or status > 299 then
    return nil, ("the proxy refuses: %d %s"):format(status, connection.parser:reason())
  elseif connection.at <= #connection.data then
    return nil, "the proxy sends data of its own"
  end
  return true
end

-- Puts the stream that the guard holds under TLS: true, or nil and why not.
local function secure(guard, name, context, due)
  local conn, message = require("moonlet.ssl").wrap(guard.held, context)
  if not conn then
    return nil, message
  end
  guard.held = conn
  conn:sni(name)
  conn:settimeout(rest(due), "t")
  return conn:dohandshake()
end

-- The server's own address, the proxy's, or a path.
local function connect(request, proxy, due)
  local server = proxy or request.parts
  local where = request.unix and { path = request.unix } or { server.host, server.port }
  local stream, message, number = socket.create_connection(where, rest(due))
  if not stream then
    return nil, message, number
  end
  stream:settimeout(nil) -- of each wait
  if not request.unix then
    stream:setoption("tcp-nodelay", true)
  end
  return stream
end

-- A stream to the server of a request, to the proxy for plain HTTP; with a context under TLS.
-- Returns nil, why, and errno or the resolver's number if there is none.
local function dial(request, proxy, context, due)
  local stream, message, number = connect(request, proxy, due)
  if not stream then
    return nil, message, number
  end
  local guard <close> = guarding(stream)
  local parts, ok = request.parts, true
  local name = type(request.ssl) == "table" and request.ssl.servername or parts.host
  if context and proxy then
    ok, message = open_tunnel(stream, parts, proxy, due)
  end
  if ok and context then
    ok, message = secure(guard, name, context, due)
  end
  if not ok then
    return nil, message
  end
  stream, guard.held = guard.held, nil
  return stream
end

return dial
