--- Requests by HTTPS, with LuaSocket's socket.http on connections of moonlet.ssl.
--
-- LuaSocket has to be installed. Where a server redirects to plain HTTP, LuaSocket goes on by
-- itself, without moonlet.socket unless moonlet.monkey has put that in place.
---@field PORT integer  where a URL has none (443)
---@field TIMEOUT number  seconds for each single wait (60)
-- Differs: certificates | not verified unless asked for | verified, see moonlet.ssl.newcontext

local http = require "socket.http"
local ltn12 = require "ltn12"
local socket = require "moonlet.socket"
local ssl = require "moonlet.ssl"
local url = require "socket.url"

local https = {
  _VERSION = ssl._VERSION,
  PORT = 443,
  TIMEOUT = 60,
}

-- What LuaSocket takes for a TCP socket: the methods of the socket within.
local Proxy = {}

Proxy.__index = function(_, name)
  if Proxy[name] == nil then
    Proxy[name] = function(self, ...)
      local within = self.within
      return within[name](within, ...)
    end
  end
  return Proxy[name]
end

-- LuaSocket sets its own limit, which is for HTTP without TLS.
function Proxy:settimeout()
  return self.within:settimeout(https.TIMEOUT)
end

function Proxy:connect(host, port)
  local ok, message = self.within:connect(host, port)
  if not ok then
    return nil, message
  end
  local conn
  conn, message = ssl.wrap(self.within, self.params)
  if not conn then
    return nil, message
  end
  self.within = conn
  self:settimeout()
  if not self.params.servername then
    conn:sni(host)
  end
  ok, message = conn:dohandshake()
  return ok and 1, message
end

-- The fields of a request that are for TLS.
local FIELDS = { "protocol", "key", "certificate", "password", "certificates", "cafile", "capath",
                 "verify", "verifyext", "options", "ciphers", "ciphersuites", "depth", "curve",
                 "curveslist", "alpn", "servername" }

--- ssl.https.tcp([params]): a function that makes a socket, as http.request wants it in a
-- request's field `create`; the socket makes a TLS connection.
---@param params? table see moonlet.ssl.newcontext; `mode` is "client"
---@return function
-- Source: LuaSec.
function https.tcp(params)
  local full = { mode = "client" }
  for _, field in ipairs(FIELDS) do
    full[field] = params and params[field]
  end
  return function()
    return setmetatable({ within = socket.tcp(), params = full }, Proxy)
  end
end

-- A request of its own, so that the caller's table stays as it is.
local function from_table(request)
  local copy = {}
  for name, value in pairs(request) do
    copy[name] = value
  end
  local parsed = url.parse(copy.url, { port = https.PORT })
  parsed.scheme = "https"
  copy.scheme = "https" -- where a redirect says no other
  copy.url = url.build(parsed)
  copy.create = https.tcp(request)
  return copy
end

local function from_string(address, body, chunks)
  local request = { url = address, sink = ltn12.sink.table(chunks) }
  if body then
    request.method = "POST"
    request.source = ltn12.source.string(body)
    request.headers = {
      ["content-length"] = #body,
      ["content-type"] = "application/x-www-form-urlencoded",
    }
  end
  return from_table(request)
end

--- ssl.https.request(request [, body]): makes a request and returns the response.
---@param request string|table a URL; or http.request's table, which may have fields of
--   moonlet.ssl.newcontext too, but no proxy
---@param body? string with a URL: sent by POST
---@return string|integer|nil # the body; 1 for a table
---@return integer|string # status, or why it failed
---@return table # headers
---@return string # the status line
-- Source: LuaSec.
function https.request(request, body)
  if http.PROXY or type(request) == "table" and request.proxy then
    return nil, "proxy not supported"
  elseif type(request) == "table" and request.create then
    return nil, "create function not permitted"
  elseif type(request) == "table" then
    return http.request(from_table(request))
  end
  local chunks = {}
  local ok, code, headers, status = http.request(from_string(request, body, chunks))
  return ok and table.concat(chunks), code, headers, status
end

return https
