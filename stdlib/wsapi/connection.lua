-- One client of the server: its requests, one after another.

local Input = require "moonlet.wsapi.input"
local body = require "moonlet.wsapi.body"
local core = require "moonlet.wsapi.core"
local failure = require "moonlet.wsapi.failure"
local log = require "moonlet.wsapi.log"
local moonlet = require "moonlet"

local now, setmetatable, type = moonlet.now, setmetatable, type

local Connection = {}
Connection.__index = Connection
Connection.__name = "moonlet.wsapi.Connection"

-- The client's address is what the log and the application are told.
local function new(server, sock, host, port)
  return setmetatable({
    server = server,
    sock = sock,
    host = host,
    port = port,
    parser = false,   -- only while there is something to parse
    data = nil,       -- what has arrived and is not parsed, from `from` on
    from = 1,
    env = nil,        -- of the request that is being answered
    input = Input.EMPTY,
    body = nil,       -- of the response, to be closed
    status = nil,     -- of the response, once it begins to be sent
    sent = 0,         -- bytes of its body
    begun = 0,        -- when the request was there
    expects = false,  -- the client waits for a word before it sends the body
    broken = false,   -- where the next request begins cannot be known
    taken = false,    -- the application has read beyond its request
    until_close = false, -- the end of the connection is that of the response's body
    trace = nil,      -- traceback of the error that ends it all
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
  local due = now() + server.header_timeout
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

-- Waits for a request, with nothing kept but the socket.
function Connection:_wait()
  local server, sock = self.server, self.sock
  local parsers, idle = server._parsers, server._idle
  if self.parser then
    parsers[#parsers + 1] = self.parser
    self.parser = false
  end
  idle[sock] = true
  local data = sock:recv()
  idle[sock] = nil
  if data then
    local count = #parsers
    self.parser = parsers[count] or server:_new_parser()
    parsers[count] = nil
  end
  return data
end

-- Reads the head of the next request; false if there is none to be answered.
function Connection:read_head()
  local data, from = self.data, self.from
  if not data then
    data, from = self:_wait(), 1
    if not data then
      return false
    end
  end
  local event, next, code = self.parser:execute(data, from)
  if event == "more" then
    data, event, next, code = self:_read_rest()
    if not data then
      return false
    end
  end
  self.begun = now()
  if not event then
    self:refuse(STATUS[code] or 400, next)
    return false
  end
  self.data, self.from = next <= #data and data or nil, next
  return true
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

-- What is wrong with a request that the parser let pass: a status and the reason.
function Connection:_fault(env, method, length)
  if length ~= 0 and method == "HEAD" then
    return 400, "a body in a HEAD request"
  elseif length > self.server.max_body then
    return 413, "too large a body"
  elseif env.REQUEST_URI == "*" and method ~= "OPTIONS" then
    return 400, "bad target"
  end
end

function Connection:_set_input(env, length, minor, upgrade)
  if length == 0 and not upgrade then
    self.input = Input.EMPTY
  else
    self.input = Input.new(self, length, upgrade)
    local expect = env.HTTP_EXPECT
    self.expects = expect ~= nil and minor == 1 and expect:lower() == "100-continue"
  end
  env.input = self.input
end

-- Whether the next request can be found behind this one.
function Connection:_end_request()
  local input = self.input
  if input == Input.EMPTY then
    return (self.parser:execute(self.data or "", self.data and self.from)) == "end"
  end
  local good = not self.taken and input:discard(self.server.max_discard)
  input:detach()
  self.input = Input.EMPTY
  self.broken = not good
  return good
end

-- Has a request answered; false if it was the last one.
function Connection:answer()
  local server = self.server
  local env, method, minor, keepalive, upgrade, length = self.parser:cgi()
  local status, problem = self:_fault(env, method, length)
  if status then
    self:refuse(status, problem)
    return false
  end
  env.REMOTE_ADDR, env.REMOTE_PORT = self.host, self.port
  setmetatable(env, server._env_meta)
  self.env = env
  self:_set_input(env, length, minor, upgrade)
  if upgrade and server:_upgrade(env, self) then
    return false
  end
  local headers, answer
  status, headers, answer = server._app(env)
  if status == nil and self.taken then
    return false
  end
  keepalive = keepalive and not server.stopping and not self.input:exceeds(server.max_discard)
  keepalive = self:respond(status, headers, answer, minor, keepalive, method == "HEAD")
  if server._log then
    self:log_request()
  end
  self.env, self.status, self.sent = nil, nil, 0
  return self:_end_request() and keepalive
end

-- Sends the response; false if the connection is of no use after it.
function Connection:respond(status, headers, answer, minor, keepalive, head_only)
  local text = body.text(answer)
  self.body = not text and answer or nil
  local head, follows, length, go_on, code = core.head(status, headers, text, minor, keepalive,
                                                       head_only)
  if text then
    self.status = code
    return self:_send_whole(head, follows, text, length) and go_on
  end
  local ok = body.send(self, head, follows, length, code)
  self:close_body()
  return ok and go_on
end

function Connection:_send_whole(head, follows, text, length)
  local sock = self.sock
  local ok = sock:send(head)
  if ok and follows == "length" then
    local last
    ok, last = sock:send(text)
    length = ok or last
  end
  self.sent = follows ~= "none" and ok and length or 0
  return ok
end

-- Closes what the application returned as a body, once.
function Connection:close_body()
  local answer = self.body
  self.body = nil
  if answer ~= nil then
    body.close(answer)
  end
end

-- For other protocols: the socket, and what has come on it behind the request. Nothing is sent any
-- more but by who takes it; the socket is closed when the application returns.
function Connection:take()
  local data = self.data
  self.data, self.taken, self.status = nil, true, 101
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
  self:log(self.parser:line(), self.env)
end

-- Serves requests until there are no more.
function Connection:serve()
  while self:read_head() and self:answer() do
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
function Connection:fail(err)
  local status = failure.status_of(err)
  if not status then
    self.server:_report_failure(self, err)
  end
  if not self.env then
    return
  end
  if self.until_close then -- so that the client sees an error, and not the end of the body
    self.sock:setoption("linger", { on = true, timeout = 0 })
  elseif not self.status then
    self.broken = true
    local text = status and "" or "Internal Server Error"
    local headers = not status and { ["Content-Type"] = "text/plain" } or nil
    self.status = status or 500
    self:_send_whole(core.head(self.status, headers, text, 1, false, false), "done", text, #text)
  end
  self:log_request()
end

-- Gives back what it holds.
function Connection:_release()
  self:close_body()
  if self.input ~= Input.EMPTY then
    self.input:detach()
    self.input = Input.EMPTY
  end
  local parser = self.parser
  if parser then
    self.parser = false
    parser:reset()
    table.insert(self.server._parsers, parser)
  end
end

-- The connection has come to its end.
function Connection:finish()
  local rest = self.broken or self.data
  self:_release()
  if rest then
    self:_linger()
  end
end

-- However it came to its end: the greenlet may have been killed.
function Connection:__close()
  local ok, err = pcall(self._release, self)
  if not ok then
    self.server:_report(tostring(err))
  end
end

return { new = new }
