--- WebSockets (RFC 6455): messages in both directions over one connection, at either end of it,
-- also compressed (RFC 7692).
--
--     local ws <close> = assert(websocket.connect("ws://127.0.0.1:8000/chat"))
--     ws:send("hello")
--     for data, kind in ws do print(kind, data) end
--
-- A server has them as `env.websocket` of moonlet.wsapi. Options of both ends:
--
-- - `max_message`, `max_frame`: most bytes of what is received (1 MiB); the peer is told 1009
-- - `max_queue`: most bytes of messages that wait in `send` while another one is sent (1 MiB)
-- - `send_timeout`: the connection breaks if the peer takes nothing for so long (none)
-- - `ping_interval`: a ping is sent when the peer was silent for so long (none), while somebody
--   receives; the connection breaks if nothing comes for `ping_timeout` then (`ping_interval`)
-- - `close_timeout`: how long the peer may take to answer a close (10)
-- - `headers`: further fields of the handshake, as { name = value } or a list of { name, value }
-- - `compress`: true, or a table of what differs: `level` (-1), `window_bits` (15), `memory` (8),
--   `context_takeover` (true), `threshold`: shorter messages go as they are (64)
-- Differs: WebSockets | in gevent-websocket | here, for clients too
-- Differs: a closed WebSocket | raises WebSocketError in send, None from receive | nil, "closed",
--   code, reason from both

local WebSocket = require "moonlet.websocket.connection"
local client = require "moonlet.websocket.client"
local moonlet = require "moonlet"
local options = require "moonlet.websocket.options"
local server = require "moonlet.websocket.server"
local socket = require "moonlet.socket"

local websocket = {}

local function check_type(value, expected, number, name, level)
  if type(value) ~= expected then
    error(("bad argument #%d to '%s' (%s expected, got %s)"):format(
            number, name, expected, value == nil and "no value" or type(value)), level or 3)
  end
end

local function bad_argument(number, name, why)
  error(("bad argument #%d to '%s' (%s)"):format(number, name, why), 3)
end

-- ---- the server's end ----

local function make_upgrade(name, request, opts)
  check_type(request, "table", 1, name, 4)
  local _, problem = options.read(false, opts)
  if problem then
    error(("bad argument #2 to '%s' (%s)"):format(name, problem), 4)
  end
  local asked, message, status, headers = server.check(request)
  if not asked then
    return nil, message, status, headers
  end
  local self = WebSocket(request.stream, "server", opts)
  self._asked, self._leftover, self._take = asked, request.leftover, request.take
  return self
end

--- Of a request for a WebSocket makes one whose state is "connecting": it answers the request
-- when it is used, or by ws:accept([opts]). Until then the request may be answered otherwise.
---@param request table  `method`, `version` ("1.1"), `header`: a function that returns the
--   value of a field (of several ones, joined by commas) by its name in lower case; `stream`, and
--   perhaps `leftover`, what came behind the request; or `take`, a function that returns both when
--   the request is answered
---@param opts? table  as for accept
---@return moonlet.websocket.WebSocket|nil
---@return string # why not
---@return integer # status of the response that says so: 400, 405, 426
---@return table # its header fields: { name, value } ...
function websocket.upgrade(request, opts)
  return make_upgrade("upgrade", request, opts)
end

--- Answers a request for a WebSocket.
---@param request table  as for upgrade
---@param opts? table  those of both ends, and `protocols`: subprotocols (the first one offered that
--   is among them is chosen), or a function that chooses from the list of those offered;
--   `origin`: whose pages may open it: an origin, a list of them, a function(origin), false for
--   anyone. Without it a page must come from the host in the request. Who is no browser sends no
--   origin.
---@return moonlet.websocket.WebSocket|nil
---@return string # why not
---@return integer # status of the response that says so: 400, 403, 405, 426
---@return table # its header fields: { name, value } ...
function websocket.accept(request, opts)
  local self, message, status, headers = make_upgrade("accept", request, opts)
  if not self then
    return nil, message, status, headers
  end
  return self:accept()
end

-- ---- the client's end ----

-- Closes a stream at the end of the block unless it was released.
local Guard = {
  __close = function(guard)
    if guard.stream then
      guard.stream:close()
    end
  end,
}

local function open_stream(where, opts)
  if opts.stream then
    return opts.stream
  end
  local address = { where.host, where.port, ssl = where.secure and (opts.ssl or true) or nil }
  return socket.create_connection(address)
end

local function open(url, where, request, key, opts)
  local stream, problem = open_stream(where, opts)
  if not stream then
    return nil, problem
  end
  local guard <close> = setmetatable({ stream = stream }, Guard)
  local sent
  sent, problem = stream:send(request)
  if not sent then
    return nil, problem
  end
  local parser, leftover = client.read_answer(stream)
  if not parser then
    return nil, leftover
  end
  local compression, status
  compression, problem, status = client.check(parser, key, opts)
  if compression == nil then
    return nil, problem, status
  end
  local self = WebSocket(stream, "client of " .. url, opts)
  self.headers = parser:headers()
  self.protocol = self.headers["sec-websocket-protocol"]
  self:_open(true, opts, compression, leftover)
  guard.stream = nil
  return self
end

--- Opens a WebSocket to a server. Redirections are not followed.
---@param url string  ws://host[:port]/path, or wss:// for TLS
---@param opts? table  those of both ends, and `timeout`: seconds for all of it, `protocols`: a list
--   of subprotocols, `origin`, `ssl`: parameters of moonlet.ssl, `stream`: a connected one to use
---@return moonlet.websocket.WebSocket|nil
---@return string # "timeout", "connection refused", what the server answered ...
---@return integer # the status of an answer that does not open it, or errno
-- Source: python3-websockets.
function websocket.connect(url, opts)
  check_type(url, "string", 1, "connect")
  local where, problem = client.parse_url(url)
  if not where then
    bad_argument(1, "connect", problem)
  end
  local all
  all, problem = options.read(true, opts)
  if not all then
    bad_argument(2, "connect", problem)
  end
  local request, key = client.request(where, all)
  if not request then
    bad_argument(2, "connect", key)
  end
  local limit = all.timeout
  if type(limit) == "userdata" then -- a Timeout, which bounds everything by itself
    limit = nil
  end
  return moonlet.with_timeout(limit, open, url, where, request, key, all)
end

return websocket
