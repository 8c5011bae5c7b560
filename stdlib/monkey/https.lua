-- LuaSec's ssl.https on moonlet.ssl: LuaSocket's http requests over TLS. Unlike LuaSec it verifies
-- certificates unless the request says verify = "none".

local http = require "socket.http"
local url = require "socket.url"

local socket = require "moonlet.socket"
local ssl = require "moonlet.ssl"

local https = {
  _VERSION = ssl._VERSION,
  PORT = 443,
  TIMEOUT = 60,
}

-- ---- connections ----

-- What socket.http makes use of; all but the setting up is left to the connection.
local Client = {}

function Client.__index(_, name)
  return Client[name] or function(self, ...)
    return self.sock[name](self.sock, ...)
  end
end

-- As in LuaSec, the module's timeout counts, whatever the caller's.
function Client:settimeout()
  return self.sock:settimeout(https.TIMEOUT)
end

function Client:connect(host, port)
  local ok, message = self.sock:connect(host, port)
  if not ok then
    return nil, message
  end
  local conn
  conn, message = ssl.wrap(self.sock, self.params)
  if not conn then
    return nil, message
  end
  self.sock = conn
  if not self.params.servername then
    conn:sni(host)
  end
  self:settimeout()
  return conn:dohandshake()
end

-- A function that makes connections, for the field `create` of requests.
function https.tcp(params)
  local client = {}
  for name, value in pairs(params or {}) do
    client[name] = value
  end
  client.mode = "client"
  return function()
    return setmetatable({ sock = socket.tcp(), params = client }, Client)
  end
end

-- ---- requests ----

local function to_https(address)
  local parsed = url.parse(address, { port = https.PORT })
  parsed.scheme = "https"
  return url.build(parsed)
end

-- The request as socket.http wants it, or what it must not have.
local function adjust(request)
  if http.PROXY or request.proxy then
    return nil, "proxy not supported"
  elseif request.create then
    return nil, "create function not permitted"
  end
  local adjusted = {}
  for name, value in pairs(request) do
    adjusted[name] = value
  end
  adjusted.scheme = "https"
  adjusted.url = request.url and to_https(request.url)
  adjusted.create = https.tcp(request)
  return adjusted
end

-- http.request over TLS; the request may also have parameters of a TLS context.
function https.request(request, body)
  local simple = type(request) == "string"
  if simple then
    request = http.genericform(request, body)
  end
  local adjusted, message = adjust(request)
  if not adjusted then
    return nil, message
  end
  local ok, code, headers, status = http.request(adjusted)
  if ok and simple then
    return table.concat(request.target), code, headers, status
  end
  return ok, code, headers, status
end

return https
