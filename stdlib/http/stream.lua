-- A stream of HTTP/2: carries one request and its answer, as a connection of HTTP/1 does.
--
-- The connection's reader hands it what comes; who waits for that waits for `news`. The pieces of
-- a function's body are sent by a greenlet of its own, the sender.

local Event = require("moonlet.event").Event
local deadline = require "moonlet.http.deadline"
local moonlet = require "moonlet"

local after, rest, sooner = deadline.after, deadline.rest, deadline.sooner

local Stream = {}
Stream.__index = Stream

-- As for HTTP/1.
local CONTINUE_TIME = 1
local LINGER = 0.05

function Stream.new(connection)
  return setmetatable({
    connection = connection,
    is_first = connection.used == 0,
    news = Event(),
    pieces = {}, -- of the answer's body
    fields = {}, -- behind it
  }, Stream)
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

-- It is over; for a reason, if that comes before the answer's end. `refused`: the server has not
-- looked at the request.
function Stream:lose(message, refused)
  self.over, self.sending, self.refused = true, false, refused
  self.failure = self.failure or not self.ended and message or nil
  stop_sender(self)
  self.news:set()
end

function Stream:close()
  if not self.over then
    self:lose("closed", false)
    if self.id then
      self.connection:cancel(self)
    end
  end
end

-- ---- what comes ----

local HANDLERS = {}

function HANDLERS.informational(self, event)
  if event.status == 100 and self.go then
    self.go:set()
  end
end

function HANDLERS.response(self, event)
  if event.overlong then
    self:lose("invalid response: too many header fields", false)
    self.connection:cancel(self)
  else
    self.head = event
  end
end

function HANDLERS.data(self, event)
  table.insert(self.pieces, event.data)
end

function HANDLERS.trailers(self, event)
  self.fields = event.fields or {}
end

HANDLERS["end"] = function(self)
  self.ended = true
end

function HANDLERS.drained(self)
  self.under_way = false
  self.sending = not self.is_last
end

function HANDLERS.close(self, event)
  if event.code == "REFUSED_STREAM" then
    self:lose("closed", true)
  elseif event.code == "NO_ERROR" then
    self:lose("closed", false)
  else
    self:lose("the server has ended the stream: " .. event.code, false)
  end
end

-- An event of the session's.
function Stream:handle(event)
  local handler = HANDLERS[event.kind]
  if handler then
    handler(self, event)
    self.news:set()
    if self.sender then
      self.turn:set()
    end
  end
end

-- ---- sending ----

-- Sends a piece, once the one before is out.
local function give(self, piece, is_last)
  self.under_way, self.is_last = true, is_last
  local wanted = self.connection:give(self, piece, is_last)
  while wanted and self.under_way and not self.over do
    self.turn:wait()
    self.turn:clear()
  end
  return wanted and not self.over
end

local function send_body(self, request)
  if self.go then
    self.go:wait(CONTINUE_TIME)
  end
  self.has_begun = true
  if type(request.body) == "string" then
    return give(self, request.body, true)
  end
  for piece in request:pieces() do
    if not give(self, piece, false) then
      return
    end
  end
  give(self, "", true)
end

local function run_sender(self, request)
  local ok, err = pcall(send_body, self, request)
  if not ok and self.sender == moonlet.getcurrent() then
    self.raised = { err }
    self:lose("the body's function failed", false)
    self.connection:cancel(self)
  end
end

-- ---- a request ----

-- Waits for the answer's head: true; or nil, why there is none.
local function await_head(self, request, due)
  local sent_due, answer_due = sooner(due, after(request.send_timeout)), nil
  while not self.head do
    if self.failure then
      return nil, self.failure
    end
    local limit = sent_due
    if not self.sending then
      answer_due = answer_due or { sooner(due, after(request.answer_timeout)) }
      limit = answer_due[1]
    end
    self.news:clear()
    if not self.news:wait(rest(limit)) then
      return nil, "timeout"
    end
  end
  if self.go and not self.go:is_set() and not self.has_begun then
    stop_sender(self) -- the server does not want the body
  end
  return true
end

-- Sends a request and reads the head of its answer: true; or nil, why there is none.
function Stream:exchange(request, head, due)
  local body = request.body
  local id = self.connection:submit(self, head, body ~= nil)
  if not id then
    self:lose("closed", true)
    return nil, "closed"
  end
  self.sending = body ~= nil
  if type(body) == "function" or request.expects then
    self.go, self.turn = request.expects and Event() or nil, Event()
    self.sender = moonlet.spawn(run_sender, self, request)
  elseif body then
    self.is_last, self.has_begun = true, true
    self.connection:give(self, body, true)
  end
  self.connection:flush()
  return await_head(self, request, due)
end

-- The next piece of the body; false at its end; or nil, why. With `at_once` it is also "", true
-- where there is nothing yet.
function Stream:read_piece(due, at_once)
  while true do
    local piece = table.remove(self.pieces, 1)
    if piece then
      if not self.over then
        self.connection:consume(self, #piece)
      end
      return piece
    elseif self.ended then
      return false
    elseif self.failure then
      return nil, self.failure
    elseif at_once then
      return "", true
    end
    self.news:clear()
    if not self.news:wait(rest(due)) then
      return nil, "timeout"
    end
  end
end

-- ---- what else is asked of a carrier ----

-- What the answer's head says.
function Stream:answer()
  return { status = self.head.status, reason = "", version = "2", headers = self.head.fields }
end

-- The fields behind the body.
function Stream:trailers()
  return self.fields
end

-- Whether a request that was lost may be sent again: the server has not looked at it, or has closed
-- a connection that was used before.
function Stream:may_repeat(request, message)
  if message ~= "closed" or self.head then
    return false
  elseif self.refused then
    return type(request.body) ~= "function" or not self.has_begun
  end
  return not self.is_first and request:is_repeatable()
end

-- It carries no other request; this one may have a rest that is about to go out.
function Stream:is_reusable()
  if self.sending then
    self.news:clear()
    self.news:wait(LINGER)
  end
  return false
end

return Stream
