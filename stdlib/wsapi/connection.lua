-- One client of the server: its requests, one after another.

local Input = require "moonlet.wsapi.input"
local body = require "moonlet.wsapi.body"
local core = require "moonlet.wsapi.core"
local failure = require "moonlet.wsapi.failure"
local llhttp = require "moonlet.llhttp"
local log = require "moonlet.wsapi.log"
local moonlet = require "moonlet"
local stream = require("moonlet.socket.core").Stream

-- A method is found sooner in the class than by way of the socket.
local close, send = stream.close, stream.send
local parser_class = getmetatable(llhttp.new("request"))
local execute, cgi = parser_class.execute, parser_class.cgi
local send_response, traced = core.respond, failure.traced
local getcurrent, now, sleep = moonlet.getcurrent, moonlet.now, moonlet.sleep
local setmetatable, type, xpcall = setmetatable, type, xpcall
local EMPTY, joined = Input.EMPTY, body.joined

local Connection = {}
Connection.__index = Connection
Connection.__name = "moonlet.wsapi.Connection"

-- What is true of a connection until it is said otherwise.
Connection.from = 1            -- of `data`: what is before that is parsed
Connection.expects = false     -- the client waits for a word before it sends the body
Connection.taken = false       -- the application has read beyond its request
Connection.until_close = false -- the end of the connection is that of the response's body

-- One that has no client yet, or that of a server's method `handle`. The client's address is what
-- the log and the application are told.
local function new(server, sock, host, port)
  return setmetatable({
    server = server,
    sock = sock or false,
    host = host,
    port = port,
    handled = sock ~= nil, -- by a method: it is not ours to close
    greenlet = false,      -- that serves it
    data = false,          -- what has arrived and is not parsed
    parser = false,        -- only while it has something that the spare one cannot have
    env = false,           -- of the request that is being answered
    input = EMPTY,         -- the same request's
    begun = 0,             -- when it was there
    status = false,        -- of the response, once it begins to be sent
    sent = 0,              -- bytes of its body
    body = false,          -- of the response, to be closed
    broken = false,        -- where the next request begins cannot be known
    worn = false,          -- others may know this object
    reusable = false,      -- has come to its end, and nobody does
  }, Connection)
end

-- ---- requests ----

-- The status that a parser's error is answered with; for all others 400.
local STATUS = { line = 414, headers = 431, coding = 501 }

-- A request that cannot be answered by the application.
function Connection:refuse(status, problem)
  if status == 400 then
    self.server:_report(("%s: bad request: %s"):format(self.host, problem))
  end
  self.broken = true
  self.sock:send((core.head(status, nil, "", 1, false, false)))
  self.status = status
  self:log(self.parser:line())
end

-- Waits for the rest of a head, which has to come in time; nil if it does not.
function Connection:_read_rest()
  local sock, server, parser = self.sock, self.server, self.parser
  self.begun = now()
  local due = self.begun + server.header_timeout
  while true do
    sock:settimeout(math.max(due - now(), 0))
    local data, problem = sock:recv()
    if not data then
      if problem == "timeout" then
        self:refuse(408, problem)
      end
      return nil
    end
    local event, next, code = parser:execute(data)
    if event ~= "more" then
      sock:settimeout(server.idle_timeout)
      return data, event, next, code
    end
  end
end

-- How HTTP/2 begins, where client and server have not agreed on it before.
local PREFACE = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

-- Whether the connection begins so; more is read as long as that cannot be known.
local function has_preface(self, server, sock)
  local due
  while true do
    local data = self.data
    local size = math.min(#data, #PREFACE)
    if data:sub(1, size) ~= PREFACE:sub(1, size) or size == #PREFACE then
      sock:settimeout(server.idle_timeout)
      return size == #PREFACE and data:sub(1, size) == PREFACE
    end
    due = due or now() + server.header_timeout
    sock:settimeout(math.max(due - now(), 0))
    local more = sock:recv()
    if not more then
      return false
    end
    self.data = data .. more
  end
end

-- Gives an environment what is not the parser's.
local function complete(self, env, ...)
  env.REMOTE_ADDR, env.REMOTE_PORT = self.host, self.port
  return setmetatable(env, self.server._env_meta), ...
end

-- The request that begins with `data`, as Parser:cgi returns it; nil if there is none to be
-- answered.
function Connection:_parse()
  local data, parser = self.data, self.parser or self.server:_take_parser()
  self.parser = parser
  local event, next, code = execute(parser, data, self.from)
  if event == "more" then
    self.data = false
    data, event, next, code = self:_read_rest()
    if not data then
      return nil
    end
  end
  if not event then
    self.begun = now()
    self:refuse(STATUS[code] or 400, next)
    return nil
  end
  self.data, self.from = next <= #data and data, next
  return complete(self, cgi(parser))
end

-- ---- answers ----

-- "100 Continue", if the client waits for it and no answer has begun.
function Connection:continue()
  if self.expects then
    self.expects = false
    if not self.status then
      self.sock:send("HTTP/1.1 100 Continue\r\n\r\n")
    end
  end
end

-- env.input of a request that may have one; nil if the request is refused.
function Connection:_begin_body(env, method, minor, upgrade, length)
  if length ~= 0 and method == "HEAD" then
    return self:refuse(400, "a body in a HEAD request")
  elseif length > self.server.max_body then
    return self:refuse(413, "too large a body")
  end
  local expect = env.HTTP_EXPECT
  self.expects = expect ~= nil and minor == 1 and expect:lower() == "100-continue"
  self.input = Input.new(self, length, upgrade)
  return self.input
end

-- Whether the next request can be found behind this one's body.
function Connection:_end_body()
  local input = self.input
  self.expects = false -- it has its answer
  local good = not self.taken and input:_discard(self.server.max_discard)
  input:_detach()
  self.input = EMPTY
  self.broken = not good
  return good
end

-- What the application has returned as a body and is no string becomes one, or is there to be sent
-- and closed.
function Connection:_take_body(result)
  result = type(result) == "table" and joined(result) or result
  self.body = type(result) ~= "string" and result or false
  return result
end

-- Sends what did not go out at once: false if the client is gone.
function Connection:_send_rest(text, follows, length, code, result)
  local ok, _, last
  if follows == "done" then
    self.status, self.sent = code, length
    ok = send(self.sock, text)
    self.sent = ok and length or 0
    return ok
  end
  self.sent = 0
  if type(result) ~= "string" then
    self.worn = true
    ok = body.send(self, text, follows, length, code)
    self:close_body()
    return ok
  end
  self.status = code
  ok, _, last = send(self.sock, text)
  if ok then
    ok, _, last = send(self.sock, result)
  end
  self.sent = ok or last or 0
  return ok
end

-- Sends what the application has returned; false if the connection is of no use after it.
function Connection:_respond(method, minor, keepalive, status, headers, result)
  if type(result) ~= "string" then
    result = self:_take_body(result)
  end
  local go_on, code, length, text, follows =
    send_response(status, headers, result, minor, keepalive, method == "HEAD", self.sock,
                  self.input == EMPTY)
  if text then
    go_on = self:_send_rest(text, follows, length, code, result) and go_on
  else
    self.status, self.sent = code, length
  end
  return self:_end_request() and go_on or false
end

-- Whether another request can be read.
function Connection:_end_request()
  self:log_request()
  self.env, self.status = false, false
  return self.input == EMPTY or self:_end_body()
end

-- Has the application answer a request; false if there was none, or if the connection is of no use
-- any more.
function Connection:_answer(env, method, minor, keepalive, upgrade, length)
  if not env then
    return false
  end
  local server = self.server
  self.begun = now()
  if length ~= 0 or upgrade then
    local input = self:_begin_body(env, method, minor, upgrade, length)
    if not input then
      return false
    end
    env.input = input
  end
  self.env = env
  local chosen = server._app
  if upgrade then
    self.worn = true
    chosen = server:_upgrade(env, self) or chosen
  end
  local status, headers, result
  if chosen ~= true then
    status, headers, result = chosen(env)
  end
  if chosen == true or self.taken then
    self:log_request()
    return false
  end
  keepalive = keepalive and not server.stopping and
              (self.input == EMPTY or not self.input:_exceeds(server.max_discard))
  return self:_respond(method, minor, keepalive, status, headers, result)
end

-- Goes on with what the server's `converse` has come to and returns (exchange.h): whether the
-- connection is still of use, or bytes that begin HTTP/2; nil if there was nothing to be done.
local function go_on(self, what, ...)
  if what == nil then
    return nil
  elseif what == true then
    return self:_respond(...)
  elseif what == false then
    local data, first = ...
    self.data, self.from = data, 1
    if first and has_preface(self, self.server, self.sock) then
      return self.data
    end
    return self:_answer(self:_parse())
  elseif type(what) == "string" then
    local follows, length, code, keepalive, result = ...
    local sent = self:_send_rest(what, follows, length, code, result)
    return self:_end_request() and sent and keepalive or false
  end
  local rest, parser = select(6, ...)
  self.parser, self.data, self.from = parser, rest or false, 1
  return self:_answer(what, ...)
end

-- A client that sends faster than it is served would keep all others from their turn.
local MAX_SERVED = 64

-- Serves requests until there are no more: nil if none had to pass through here, so that the object
-- is as before, else false; or bytes that begin HTTP/2.
local function serve(self)
  local server, sock, host, port = self.server, self.sock, self.host, self.port
  local converse = server._converse
  local result = go_on(self, converse(sock, host, port, server._http2, self))
  local served = 0
  while result == true do
    served = served + 1
    if served % MAX_SERVED == 0 then
      sleep(0)
    end
    if self.data then
      result = self:_answer(self:_parse())
    else
      if self.parser then
        server:_keep_parser(self.parser)
        self.parser = false
      end
      result = go_on(self, converse(sock, host, port, false, self)) or false
    end
  end
  return result
end

-- The server stops.
function Connection:on_stop()
  if not (self.env or self.parser or self.data) then
    self.sock:close()
  end
end

-- Closes what the application returned as a body, once.
function Connection:close_body()
  local result = self.body
  self.body = false
  if result then
    body.close(result)
  end
end

-- For other protocols: the socket, and what has come on it behind the request. Nothing is sent any
-- more but by who takes it; the socket is closed when the application returns.
function Connection:take()
  local data = self.data
  self.data, self.taken, self.status = false, true, 101
  return self.sock, data and data:sub(self.from) or ""
end

-- ---- the end ----

function Connection:log(request, env)
  local write = self.server._log
  if write then
    env = env or {}
    write(log.line(self.host, request, self.status or 499, self.sent, env.HTTP_REFERER,
                   env.HTTP_USER_AGENT, now() - self.begun))
  end
end

function Connection:log_request()
  if self.server._log then
    self:log(self.parser:line(), self.env)
  end
end

-- Bytes may be under way whose arrival at a closed socket would take the answer from the client
-- before it has read it.
function Connection:_linger()
  local sock, server = self.sock, self.server
  local due, budget = now() + server.linger_timeout, server.max_discard
  sock:shutdown("send")
  while budget > 0 do
    sock:settimeout(math.max(due - now(), 0))
    local data = sock:recv()
    if not data then
      return
    end
    budget = budget - #data
  end
end

-- The application has failed, or the client's request has while the application read it.
function Connection:fail(err, trace)
  local status = failure.status_of(err)
  self.worn = true
  if not status then
    self.server:_report_failure(self, trace)
  end
  if not self.env then
    return
  end
  if not self.status then
    self.broken = true
    local headers = not status and { ["Content-Type"] = "text/plain" } or nil
    local result = status and "" or "Internal Server Error"
    local _, code, length, text, follows = send_response(status or 500, headers, result, 1, false,
                                                         self.env.REQUEST_METHOD == "HEAD",
                                                         self.sock)
    self.status, self.sent = code, length
    if text then
      self:_send_rest(text, follows, length, code, result)
    end
  elseif self.until_close then -- so that the client sees an error, and not the end of the body
    self.sock:setoption("linger", { on = true, timeout = 0 })
  end
  self:log_request()
end

-- Gives back what it holds.
function Connection:_release()
  self:close_body()
  if self.input ~= EMPTY then
    self.input:_detach()
    self.input = EMPTY
  end
  local parser = self.parser
  if parser then
    self.parser = false
    parser:reset()
    self.server:_keep_parser(parser)
  end
end

-- The connection has come to its end in order.
local function finish(self)
  local rest = self.broken or self.data
  if self.parser or self.body or self.input ~= EMPTY then
    self:_release()
  end
  if rest then
    self:_linger()
  elseif not self.worn then
    self.reusable = true
  end
end

-- So many are kept for the next clients.
local MAX_IDLE = 100

-- However it came to its end: the greenlet may have been killed.
function Connection:__close()
  local server, reusable = self.server, self.reusable
  if not reusable then
    local ok, problem = pcall(self._release, self)
    if not ok then
      server:_report(tostring(problem))
    end
  end
  if self.handled then
    server._handlers[self.greenlet] = self.sock
    return
  end
  server._handlers[self.greenlet] = nil
  close(self.sock)
  if reusable then
    local idle = server._idle
    local count = #idle
    if count < MAX_IDLE then
      idle[count + 1] = self
    end
  end
end

-- Serves a client to its end.
local function run(self)
  local server, me = self.server, getcurrent()
  self.greenlet, self.reusable = me, false
  server._handlers[me] = self
  local _ <close> = self
  local ok, result = xpcall(serve, traced, self)
  if not ok then
    failure.handle(result, self)
  elseif result then
    return server._http2.serve(server, self.sock, self.host, self.port, result)
  elseif result == nil then
    self.reusable = true
    return
  end
  finish(self)
end

return { new = new, run = run, class = Connection, STATUS = STATUS }
