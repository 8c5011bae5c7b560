-- One request of an HTTP/2 connection, and its response.

local Input = require "moonlet.wsapi.input"
local body = require "moonlet.wsapi.body"
local connections = require "moonlet.wsapi.connection"
local core = require "moonlet.wsapi.core"
local event = require "moonlet.event"
local failure = require "moonlet.wsapi.failure"
local moonlet = require "moonlet"

local EMPTY = Input.EMPTY
local fail, now = failure.fail, moonlet.now

local Stream = {}
Stream.__index = Stream
Stream.__name = "moonlet.wsapi.Stream"

-- What is the same as for a connection of HTTP/1, whose fields it has.
for _, name in ipairs { "log", "close_body", "_begin_body" } do
  Stream[name] = connections.class[name]
end

-- What is true of a stream until it is said otherwise.
Stream.closed = false    -- nothing can be sent any more
Stream.first = 1         -- of the pieces of the request's body that have come
Stream.last = 0
Stream.trailers = nil    -- behind it
Stream.late = false      -- it was too slow
Stream.expects = false   -- the client waits for a word before it sends the body
Stream.sending = false   -- a piece of the response is under way
Stream.unsent = 0        -- what was left of it when the stream was closed
Stream.readable = nil    -- events, once somebody has waited for them
Stream.writable = nil
Stream.env = nil
Stream.input = EMPTY
Stream.body = nil        -- of the response, to be closed
Stream.status = nil      -- of the response, once it has begun
Stream.sent = 0          -- bytes of its body
Stream.complete = false  -- it was handed over to its end
Stream.sent_all = false  -- and sent, before the request has ended

-- `head` is nil if it was too long; `ended`: there is no body.
local function new(connection, id, head, ended)
  return setmetatable({
    server = connection.server,
    host = connection.host,
    port = connection.port,
    connection = connection,
    session = connection.session,
    id = id,
    head = head,
    line = head and head:match("^[^\r]*"):gsub("1%.1$", "2.0") or "-",
    bodiless = ended,
    ended = ended,  -- the request has come to its end
    pieces = not ended and {} or nil,
    begun = now(),
  }, Stream)
end

-- ---- what the connection tells ----

local function signal(happened)
  if happened then
    happened:set()
  end
end

-- A piece of the request's body, or nil: its end.
function Stream:receive(piece)
  if piece then
    self.last = self.last + 1
    self.pieces[self.last] = piece
  else
    self.ended = true
  end
  signal(self.readable)
end

-- Our side was sent to its end, and the client's goes on.
function Stream:answered()
  self.sent_all = true
  signal(self.readable)
end

-- The piece under way was sent.
function Stream:drained()
  self.sending = false
  signal(self.writable)
end

-- It is over, with so many bytes of the piece under way not sent.
function Stream:close(left)
  self.closed = true
  self.unsent = self.sending and left or 0
  self.sending = false
  signal(self.readable)
  signal(self.writable)
end

-- Waits for one of the two events; false at the timeout.
function Stream:_wait(name, timeout)
  local happens = self[name]
  if happens then
    happens:clear()
  else
    happens = event.Event()
    self[name] = happens
  end
  return happens:wait(timeout)
end

-- ---- the request's body ----

-- env.input, of pieces that come by way of the connection.
local Body = setmetatable({}, { __index = Input.class })
Body.__index = Body
Body.__name = Input.class.__name

-- Waits for the client, who has to be quick enough.
function Body:_wait()
  local stream, server = self._connection, self._connection.server
  local patience = server.body_timeout + self._received / server.body_rate - self._waited
  local start = now()
  local ok = stream:_wait("readable", math.max(patience, 0))
  self._waited = self._waited + (now() - start)
  if not ok then
    stream.late = true
    fail(408, "the request's body came too slowly")
  end
end

function Body:_next_piece()
  local stream = self._connection
  if not stream then
    error("the request is over", 0)
  end
  while not self._done do
    local piece = stream:take()
    if piece then
      return self:_count(piece)
    elseif stream.ended then
      self._done = true
    elseif stream.closed then
      fail(400, "unexpected end of file: the request's body is incomplete")
    else
      stream:continue()
      self:_wait()
    end
  end
  return nil
end

function Body:trailers()
  return self._trailers or self._done and self._connection and self._connection.trailers or nil
end

function Body:_detach()
  self._trailers = self._done and self._connection.trailers or nil
  self._connection = nil
end

-- The next piece that has come, if there is one; as much may follow.
function Stream:take()
  local first = self.first
  local piece = first <= self.last and self.pieces[first]
  if piece then
    self.pieces[first] = nil
    self.first = first + 1
    if not self.closed then
      self.session:consume(self.id, #piece)
      if self.session:want_write() then
        self.connection:wake()
      end
    end
  end
  return piece
end

-- "100 Continue", if the client waits for it and no answer has begun.
function Stream:continue()
  if self.expects then
    self.expects = false
    if not self.status and not self.closed then
      self.session:respond(self.id, "HTTP/1.1 100 Continue\r\n\r\n")
      self.connection:wake()
    end
  end
end

-- ---- the response ----

-- Submits the head; false if the client is gone.
function Stream:_begin(text, more, code)
  if self.closed or not self.session:respond(self.id, text, more) then
    return false
  end
  self.status, self.complete = code, not more
  self.connection:wake()
  return true
end

-- Waits until a piece is sent, as long as the client goes on taking some of it.
function Stream:_drain(size)
  local left = size
  while self.sending and not self:_wait("writable", self.server.idle_timeout) and self.sending do
    local rest = self.session:left(self.id)
    if rest == left then
      self.session:reset(self.id)
      self.connection:wake()
      return rest
    end
    left = rest
  end
  return self.unsent
end

-- Sends a piece of the body; false if the client is gone.
function Stream:_send(piece, last, trailers)
  if self.closed or not self.session:data(self.id, piece, last, trailers) then
    return false
  end
  self.sending = true
  self.connection:wake()
  local left = self:_drain(#piece)
  self.sent = self.sent + #piece - left
  self.complete = last and left == 0
  return left == 0 and (last or not self.closed)
end

-- Lets some of a request come that is not read to its end, before its response comes to its own:
-- there are clients, curl 7.88 among them, that stop sending once they have the whole response, and
-- wait for ever.
function Stream:_discard()
  local most = self.server.max_discard
  if self.ended or self.expects or self.late or self.input:_exceeds(most) then
    return
  end
  local due = now() + self.server.linger_timeout
  while not self.closed and not self.ended and most >= 0 do
    local piece = self:take()
    if piece then
      most = most - #piece
    elseif not self:_wait("readable", math.max(due - now(), 0)) then
      return
    end
  end
end

-- A response whose body is there.
local function send_whole(self, text, piece, code)
  self:_discard()
  if self:_begin(text, piece ~= "", code) and piece ~= "" then
    self:_send(piece, true)
  end
end

-- A piece of a body from an iterator: what it is, if it fits into the length that was promised.
local function checked(self, piece, length)
  piece = body.check_piece(piece)
  if length and self.sent + #piece > length then
    error(("a response's body is longer than its Content-Length, %d"):format(length), 0)
  end
  return piece
end

-- What an iterator gives, each piece at once.
local function send_pieces(self, text, code, length)
  local result = body.checked(self.body)
  local piece, trailers = result()
  while piece do
    piece = checked(self, piece, length)
    if piece ~= "" and (not (self.status or self:_begin(text, true, code)) or
                        not self:_send(piece)) then
      return
    end
    piece, trailers = result()
  end
  if length and self.sent < length then
    error(("a response's body is shorter than its Content-Length, %d"):format(length), 0)
  end
  local fields = trailers and core.fields(trailers) or nil
  self:_discard()
  if self.status or self:_begin(text, fields ~= nil, code) and fields then
    self:_send("", true, fields)
  end
end

local function respond(self, status, headers, result, head_only)
  if type(result) == "table" then
    result = body.joined(result)
  end
  if type(result) ~= "string" then
    self.body = result
  end
  local text, follows, length, _, code = core.head(status, headers, result, 1, true, head_only)
  if follows == "raw" then
    error("a response's status cannot be 101 in HTTP/2", 0)
  elseif type(result) == "string" or follows == "done" then
    send_whole(self, text, length > 0 and result or "", code)
  elseif follows == "none" then
    if code == 204 or code == 304 then
      body.check_empty(result, code)
    end
    send_whole(self, text, "", code)
  else
    send_pieces(self, text, code, follows == "length" and length or nil)
  end
  self:close_body()
end

-- ---- the request ----

-- A request that cannot be answered by the application.
function Stream:refuse(status, problem)
  if status == 400 then
    self.server:_report(("%s: bad request: %s"):format(self.host, problem))
  end
  respond(self, status, nil, nil, false)
  self:log(self.line)
end

-- The request as variables, by way of the parser for HTTP/1, which has its limits and checks; nil
-- if it was refused.
local function read_head(self)
  if not self.head then
    return self:refuse(431)
  end
  local server = self.server
  local parser = server:_take_parser()
  local what, problem, code = parser:execute(self.head)
  local env, method, length, _
  if what then
    env, method, _, _, _, length = parser:cgi()
  end
  parser:reset()
  server:_keep_parser(parser)
  if not what then
    return self:refuse(connections.STATUS[code] or 400, problem)
  end
  if self.bodiless then
    length = 0
  elseif length == 0 and not env.CONTENT_LENGTH then
    length = -1
  end
  return env, method, length
end

local function answer(self)
  local env, method, length = read_head(self)
  if not env then
    return
  end
  local server = self.server
  if length ~= 0 then
    if not self:_begin_body(env, method, 1, false, length) then
      return
    end
    setmetatable(self.input, Body)
  end
  env.SERVER_PROTOCOL = "HTTP/2.0"
  env.REMOTE_ADDR, env.REMOTE_PORT, env.input = self.host, self.port, self.input
  self.env = setmetatable(env, server._env_meta)
  local status, headers, result = server._app(env)
  respond(self, status, headers, result, method == "HEAD")
  self:log(self.line, env)
end

-- ---- the end ----

-- The application has failed, or the client's request has while the application read it.
function Stream:fail(err, trace)
  local status = failure.status_of(err)
  if not status then
    self.server:_report_failure(self, trace)
  end
  if not self.status then
    local headers = not status and { ["Content-Type"] = "text/plain" } or nil
    respond(self, status or 500, headers, not status and "Internal Server Error" or nil,
            self.env and self.env.REQUEST_METHOD == "HEAD")
  end
  self:log(self.line, self.env)
end

function Stream:_release()
  self.connection:forget(self)
  if self.input ~= EMPTY then
    self.input:_detach()
    self.input = EMPTY
  end
  if not self.closed and not (self.complete and self.ended) then
    self.session:reset(self.id, self.complete and "NO_ERROR" or "INTERNAL_ERROR")
    self.connection:wake()
  end
  self:close_body()
end

-- However it came to its end: the greenlet may have been killed.
function Stream:__close()
  local ok, err = pcall(self._release, self)
  if not ok then
    self.server:_report(tostring(err))
  end
end

-- The body of its greenlet.
function Stream.run(stream)
  local self <close> = stream
  failure.guard(answer, self)
  while self.complete and not (self.ended or self.closed or self.sent_all) and
        self:_wait("readable", self.server.linger_timeout) do
  end
end

return { new = new }
