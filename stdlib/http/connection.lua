-- A connection of HTTP/1: carries one request at a time: sends it, and reads the head of its answer
-- and then its body.
--
-- What does not go out at once is sent by a greenlet of its own, the sender, so that the answer is
-- read meanwhile, whenever it comes. The sender also sees to it that phases end in time: it
-- breaks the connection, which wakes the reader. If that was for an error of the body's function,
-- `raised` has it. Every call that may wait is bounded by a deadline (deadline.lua), or by none.

local deadline = require "moonlet.http.deadline"
local event = require "moonlet.event"
local llhttp = require "moonlet.llhttp"
local moonlet = require "moonlet"

local after, rest = deadline.after, deadline.rest

local Connection = {}
Connection.__index = Connection

-- Servers are trusted with more than clients would be.
local LIMITS = { line = 65536, header_bytes = 262144, header_count = 1000 }

-- So much of a body goes out with the head.
local SMALL = 16384

-- A server that does not say "100 Continue" so long may not know what is expected of it.
local CONTINUE_TIME = 1

-- Where the answer is complete and the request is not: so long it may yet become so.
local LINGER = 0.05

-- So many informational answers are not to inform.
local MAX_INFORMATIONAL = 100

-- After so many reads, all of which may have found something at once, the others have a turn.
local MAX_READS = 16

-- How a call ends that would have had to wait: under TLS it says for what.
local WAITS = { timeout = true, wantread = true, wantwrite = true }

function Connection.new(stream)
  return setmetatable({
    stream = stream,
    parser = llhttp.new("response", LIMITS),
    data = "", -- has come,
    at = 1, -- and is to be parsed from here on
    used = 0,
    reads = 0,
  }, Connection)
end

-- ---- its end ----

-- Takes the sender off: it ends at its next wait.
local function stop_sender(self)
  local sender = self.sender
  self.sender = nil
  if sender and sender ~= moonlet.getcurrent() then
    sender:kill(nil, 0)
  end
end

function Connection:close()
  self.closed = true
  stop_sender(self)
  self.stream:close()
end

-- Ends it for a reason, which the reader is told; `raised` has an error that the reader raises.
local function break_off(self, message, raised)
  if not self.closed then
    self.failure, self.raised = message, raised
    self:close()
  end
end

-- Whether another request may be sent: nothing has come that nobody asked for, not the end either.
function Connection:is_idle()
  if self.closed or self.at <= #self.data then
    return false
  end
  self.stream:settimeout(0, "t")
  local data, message = self.stream:recv(1)
  return not data and WAITS[message] == true
end

-- ---- sending ----

-- Sends all of it: true, or nil and why not.
function Connection:send(data, due, from)
  self.stream:settimeout(rest(due), "t")
  local last, message = self.stream:send(data, from)
  if last then
    return true
  end
  return nil, WAITS[message] and "timeout" or message
end

-- A body whose pieces a function gives goes out in chunks unless its length is known.
local function send_pieces(self, request, due)
  for piece in request:pieces() do
    local data = request.chunked and ("%x\r\n%s\r\n"):format(#piece, piece) or piece
    local ok, message = self:send(data, due)
    if not ok then
      return nil, message
    end
  end
  return not request.chunked or self:send("0\r\n\r\n", due)
end

local function send_body(self, request, due)
  if self.go then
    self.go:wait(CONTINUE_TIME)
  end
  if type(request.body) == "function" then
    return send_pieces(self, request, due)
  end
  return self:send(request.body, due)
end

-- The request is out: from now on the answer is waited for.
local function await_answer(self, request)
  self.sending = false
  if request.answer_timeout and not self.headed then
    moonlet.sleep(request.answer_timeout)
    break_off(self, "timeout")
  end
end

-- The sender. A server that does not take all may have answered all the same: that is read.
local function run_sender(self, request, head, from, has_body, due)
  local ok, message = true, nil
  if from <= #head then
    ok, message = self:send(head, due, from)
  end
  if ok and has_body then
    local fine, err
    fine, ok, err = pcall(send_body, self, request, due)
    message = err
    if not fine and self.sender ~= moonlet.getcurrent() then
      return -- it was taken off
    elseif not fine then
      return break_off(self, "the body's function failed", { ok })
    end
  end
  if not ok and message ~= "closed" then
    return break_off(self, message)
  end
  self.cut = not ok
  await_answer(self, request)
end

-- Sends a request, or leaves the rest of it to the sender.
local function send_request(self, request, head, due)
  local body, has_body = request.body, request.body ~= nil
  if type(body) == "string" and #body <= SMALL and not request.expects then
    head, has_body = head .. body, false
  end
  self.stream:settimeout(0, "t")
  local last, message, partial = self.stream:send(head)
  if not last and not WAITS[message] then
    self.cut = true
    return message == "closed" or nil, message
  elseif not last or has_body then
    self.sending = true
    self.go = request.expects and event.Event() or nil
    self.sender = moonlet.spawn(run_sender, self, request, head, (last or partial) + 1, has_body,
                                due)
  end
  return true
end

-- ---- receiving ----

-- More bytes for the parser: true; nil and why not, whether that is the orderly end.
local function refill(self, due)
  self.reads = self.reads % MAX_READS + 1
  if self.reads == MAX_READS then
    moonlet.sleep(0)
  end
  local seconds = rest(due)
  if seconds == 0 then
    return nil, "timeout"
  end
  self.stream:settimeout(seconds, "t")
  local data, message, cut = self.stream:recv()
  if data then
    self.data, self.at, self.answered = data, 1, true
    return true
  elseif self.closed then
    return nil, self.failure or "closed"
  elseif message == "closed" then
    return nil, message, not cut
  end
  return nil, WAITS[message] and "timeout" or message
end

-- The parser's next event: "headers", "body" and a piece, "end"; or nil, why. "more" if that takes
-- more bytes than have come, and there shall be no wait.
local function advance(self, due, at_once)
  while true do
    local what, at, piece = self.parser:execute(self.data, self.at)
    if not what then
      return nil, "invalid response: " .. at
    end
    self.at = at
    if what ~= "more" or at_once then
      return what, piece
    end
    local ok, message, is_end = refill(self, due)
    if not ok then
      if is_end and self.parser:finish() == "end" then
        return "end"
      end
      return nil, message
    end
  end
end

-- A final answer has come.
local function settle(self)
  self.headed = true
  if not self.sending then
    stop_sender(self)
  elseif self.go and not self.go:is_set() then
    self.cut = true -- the server does not want the body
    stop_sender(self)
  end
  return true
end

-- Reads up to the end of a final answer's head: true; or nil, why.
function Connection:read_head(request, due)
  for _ = 1, 2 * MAX_INFORMATIONAL do
    local what, message = advance(self, due)
    if not what then
      return nil, message
    end
    local status = what == "headers" and self.parser:status()
    if status == 101 and not request.upgrades then
      return nil, "invalid response: another protocol that was not asked for"
    elseif status and (status >= 200 or status == 101) then
      return settle(self)
    elseif status == 100 and self.go then
      self.go:set()
    end
  end
  return nil, "invalid response: too many informational ones"
end

-- The next piece of the body; false at its end; or nil, why. With `at_once` it is also "", true
-- where there is nothing yet.
function Connection:read_piece(due, at_once)
  local what, piece = advance(self, due, at_once)
  if what == "body" then
    return piece
  elseif what == "end" then
    return false
  elseif what == "more" then
    return "", true
  end
  return nil, piece
end

-- ---- a request ----

-- Sends a request and reads the head of its answer: true; or nil, why there is none.
function Connection:exchange(request, head, due)
  self.answered, self.headed, self.sending, self.go = false, false, false, nil
  self.used = self.used + 1
  if request.method == "HEAD" then
    self.parser:skip_body()
  end
  local ok, message = send_request(self, request, head,
                                   deadline.sooner(due, after(request.send_timeout)))
  if not ok then
    return nil, message
  end
  if not self.sending then
    due = deadline.sooner(due, after(request.answer_timeout))
  end
  return self:read_head(request, due)
end

-- What the answer's head says.
function Connection:answer()
  local parser = self.parser
  return { status = parser:status(), reason = parser:reason(), version = parser:version(),
           headers = parser:headers() }
end

-- The fields behind the body.
function Connection:trailers()
  return self.parser:trailers()
end

-- Whether a request that was lost may be sent again: the server has closed a connection that was
-- kept, as the request went out.
function Connection:may_repeat(request, message)
  return message == "closed" and self.used > 1 and not self.answered and request:is_repeatable()
end

-- Whether the connection is fit for another request, now that the answer has been read.
function Connection:is_reusable(request)
  if self.sending and not self.cut and self.sender then
    self.sender:join(LINGER)
  end
  local ok = not (self.closed or self.sending or self.cut or request.closes) and
               self.parser:keepalive() and self.at > #self.data
  if ok then
    self.data, self.at = "", 1
  end
  return ok
end

return Connection
