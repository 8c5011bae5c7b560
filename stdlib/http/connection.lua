--- One connection of an HTTP client: sends a request, reads the head of its answer and then its
-- body. Every call is bounded by a deadline on moonlet.now()'s clock, or by none.

local llhttp = require "moonlet.llhttp"
local moonlet = require "moonlet"
local socket = require "moonlet.socket"

local now = moonlet.now

local Connection = {}
Connection.__index = Connection

-- What is left until the deadline; 0: nothing.
local function rest(deadline)
  return deadline and math.max(deadline - now(), 0)
end

-- ---- making one ----

-- Through a proxy to a TLS server: the proxy joins the two ends.
local function open_tunnel(self, authority, proxy, deadline)
  local head = { "CONNECT ", authority, " HTTP/1.1\r\nHost: ", authority, "\r\n" }
  if proxy.authorization then
    table.insert(head, "Proxy-Authorization: " .. proxy.authorization .. "\r\n")
  end
  table.insert(head, "\r\n")
  local ok, message = self:send(table.concat(head), deadline)
  if not ok then
    return nil, message
  end
  self.parser:skip_body()
  ok, message = self:read_head(deadline)
  if not ok then
    return nil, message
  end
  local status = self.parser:status()
  if status < 200 or status > 299 then
    return nil, ("the proxy refuses: %d %s"):format(status, self.parser:reason())
  end
  if self.at <= #self.data then
    return nil, "the proxy sends data of its own"
  end
  self.parser = llhttp.new("response", self.limits)
  self.data, self.at = "", 1
  return true
end

local function secure(self, host, params, deadline)
  local ssl = require "moonlet.ssl"
  local full = { mode = "client", servername = host }
  for name, value in pairs(params or {}) do
    full[name] = value
  end
  local conn, message = ssl.wrap(self.stream, full)
  if not conn then
    return nil, message
  end
  self.stream = conn
  conn:settimeout(rest(deadline), "t")
  local ok
  ok, message = conn:dohandshake()
  return ok, message
end

--- Connects to the server of a URL.
---@param parts table  of url.parse
---@param options table  `proxy` {host, port, authorization}, `unix` (a path), `ssl` (parameters),
--   `limits` (of llhttp)
---@param deadline? number
---@return table|nil
---@return string # why there is none
---@return integer # errno, or the resolver's number
function Connection.open(parts, options, deadline)
  local proxy = options.proxy
  local where = options.unix and { path = options.unix } or proxy or parts
  if not where.path then
    where = { where.host, where.port }
  elseif where == parts then
    where = { parts.host, parts.port }
  end
  local stream, message, number = socket.create_connection(where, rest(deadline))
  if not stream then
    return nil, message, number
  end
  local self = setmetatable({
    stream = stream,
    limits = options.limits,
    parser = llhttp.new("response", options.limits),
    data = "",
    at = 1,
    used = 0,
    direct = not (proxy and parts.scheme == "http"),
  }, Connection)
  local guard <close> = self:guard()
  stream:settimeout(nil)
  if not options.unix then
    stream:setoption("tcp-nodelay", true)
  end
  local ok = true
  if parts.scheme == "https" then
    if proxy then
      ok, message = open_tunnel(self, options.authority, proxy, deadline)
    end
    if ok then
      ok, message = secure(self, parts.host, options.ssl, deadline)
    end
  end
  if not ok then
    return nil, message
  end
  guard:release()
  return self
end

-- ---- its end ----

function Connection:close()
  self.stream:close()
  self.closed = true
end

local Guard = {}
Guard.__index = Guard

function Guard:release()
  self.connection = nil
end

function Guard:__close()
  if self.connection then
    self.connection:close()
  end
end

--- For `<close>`: closes it at the end of the block unless it was released.
function Connection:guard()
  return setmetatable({ connection = self }, Guard)
end

--- Whether another request may be sent: nothing has come that nobody asked for, not the end either.
function Connection:is_idle()
  if self.closed or self.at <= #self.data then
    return false
  end
  self.stream:settimeout(0, "t")
  local data, message = self.stream:recv(1)
  return not data and (message == "timeout" or message == "wantread")
end

-- ---- bytes ----

function Connection:send(data, deadline)
  self.stream:settimeout(rest(deadline), "t")
  local last, message = self.stream:send(data)
  if not last then
    return nil, message
  end
  return true
end

-- More bytes for the parser: nil, why.
local function refill(self, deadline)
  self.stream:settimeout(rest(deadline), "t")
  local data, message = self.stream:recv()
  if not data then
    return nil, message
  end
  self.data, self.at = data, 1
  self.answered = true
  return true
end

-- The parser's next event: "headers", "body" and a piece, "end"; or nil, why. It may have one
-- without further bytes.
local function advance(self, deadline)
  while true do
    local event, at, piece = self.parser:execute(self.data, self.at)
    if not event then
      return nil, "invalid response: " .. at
    end
    self.at = at
    if event ~= "more" then
      return event, piece
    end
    local ok, message = refill(self, deadline)
    if not ok and message == "closed" then
      return self.parser:finish() == "end" and "end" or nil, "closed"
    elseif not ok then
      return nil, message
    end
  end
end

--- Reads up to the end of a final answer's head.
---@return boolean|nil
---@return string
function Connection:read_head(deadline)
  while true do
    local event, message = advance(self, deadline)
    if not event then
      return nil, message
    end
    local status = event == "headers" and self.parser:status()
    if status and (status >= 200 or status == 101) then
      return true
    end
  end
end

--- The next piece of the body; false at its end; or nil, why.
---@return string|boolean|nil
---@return string
function Connection:read_piece(deadline)
  local event, piece = advance(self, deadline)
  if event == "body" then
    return piece
  elseif event == "end" then
    return false
  end
  return nil, piece
end

-- ---- a request ----

-- A body whose pieces a function gives goes out in chunks unless its length is known.
local function send_pieces(self, next_piece, chunked, deadline)
  for piece in next_piece do
    if type(piece) ~= "string" then
      return nil, "the body's function must return strings"
    end
    local ok, message = true, nil
    if piece ~= "" then
      ok, message = self:send(chunked and ("%x\r\n%s\r\n"):format(#piece, piece) or piece, deadline)
    end
    if not ok then
      return nil, message
    end
  end
  if chunked then
    return self:send("0\r\n\r\n", deadline)
  end
  return true
end

--- Sends a request and reads the head of its answer. A server may answer before it has read the
-- whole body, so a send that fails does not yet mean that there is no answer.
---@param head string
---@param body string|function|nil
---@param chunked boolean
---@param deadline? number
---@return boolean|nil
---@return string # why there is no answer
function Connection:exchange(head, body, chunked, deadline)
  self.answered = false
  self.used = self.used + 1
  local ok, message
  if type(body) == "function" then
    ok, message = self:send(head, deadline)
    if ok then
      ok, message = send_pieces(self, body, chunked, deadline)
    end
  else
    ok, message = self:send(head .. (body or ""), deadline)
  end
  if not ok and message ~= "closed" then
    return nil, message
  end
  self.cut = not ok
  return self:read_head(deadline)
end

return Connection
