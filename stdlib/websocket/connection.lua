-- The object at either end of a WebSocket.
--
-- Who receives drives the connection: it also answers pings and a close. Frames are written by one
-- greenlet at a time, whole; what has to be said while another one writes (a pong, a close) waits
-- for the end of that one's frame, so that who reads never waits for a peer that does not read.

local Object = require "moonlet.class"
local core = require "moonlet.wslay.core"
local event = require "moonlet.event"
local Semaphore = require("moonlet.lock").Semaphore
local moonlet = require "moonlet"
local options = require "moonlet.websocket.options"
local server = require "moonlet.websocket.server"

local now, with_timeout = moonlet.now, moonlet.with_timeout

-- Codes of closing; the last two are in no frame.
local NORMAL, GOING_AWAY, INTERNAL, NO_CODE, ABNORMAL = 1000, 1001, 1011, 1005, 1006

local MAX_CONTROL, MAX_REASON = 125, 123

local function bad_argument(number, name, why)
  error(("bad argument #%d to '%s' (%s)"):format(number, name, why), 3)
end

local function check_string(value, number, name)
  if type(value) ~= "string" then
    error(("bad argument #%d to '%s' (string expected, got %s)"):format(
            number, name, value == nil and "no value" or type(value)), 3)
  end
end

-- A time limit in seconds; a Timeout that is started bounds everything by itself.
local function check_timeout(timeout, number, name)
  if type(timeout) == "userdata" and timeout.is and timeout:is(moonlet.Timeout) then
    return nil
  elseif timeout ~= nil and type(timeout) ~= "number" then
    error(("bad argument #%d to '%s' (number expected, got %s)"):format(
            number, name, type(timeout)), 3)
  end
  return timeout
end

--- One end of a WebSocket. As a `<close>` variable it is closed at the end of the block; if an
--- error ends the block, at once and with the code 1011, or 1001 if the greenlet is killed.
--- Who only sends learns that the peer has left when the connection is gone: ws:receive(seconds)
--- instead of a sleep between messages tells it at once, and answers pings.
---@class moonlet.websocket.WebSocket: moonlet.class.Object
---@field state "connecting"|"open"|"closing"|"closed"  connecting: of a server, not accepted yet
---@field protocol? string  the subprotocol that was agreed on
---@field headers? table  of a client: the header fields of the server's answer, by name in lower
---   case
local WebSocket = Object:extend("WebSocket")

function WebSocket:new(stream, name, opts)
  self.state = "connecting"
  self._stream, self._name, self._opts = stream, name, opts
  self._lock = Semaphore(1)
  self._writing = setmetatable({ self }, { __close = self._end_writing })
  self._reading = setmetatable({ self }, { __close = self._end_reading })
  self._waiting = 0 -- bytes of messages that wait for the lock
end

-- From now on frames are exchanged; some bytes of them may have come with the handshake.
function WebSocket:_open(is_client, opts, compression, leftover)
  self._opts = opts
  self._codec = core.codec(is_client, opts.max_frame, opts.max_message, compression or nil)
  self._heard = now()
  self._stream:settimeout(nil)
  self._stream:settimeout(nil, "t")
  if self._stream.setoption then
    self._stream:setoption("tcp-nodelay", true)
  end
  self.state = "open"
  if leftover and leftover ~= "" then
    self._codec:feed(leftover)
  end
end

-- ---- the end ----

-- What send and receive return once there is nothing more to be done.
function WebSocket:_over()
  return nil, "closed", self._code or ABNORMAL, self._reason or ""
end

-- The first reason to be known is the one that counts.
function WebSocket:_note(code, reason)
  if not self._code then
    self._code, self._reason = code, reason
  end
end

function WebSocket:_tell()
  if self._news then
    self._news:set()
  end
end

-- Waits until something about reading or the state may have changed: false at the deadline.
function WebSocket:_await_news(deadline)
  self._news = self._news or event.Event()
  self._news:clear()
  return self._news:wait(deadline and deadline - now())
end

function WebSocket:_finish(code, reason)
  self:_note(code, reason)
  self.state = "closed"
  self._stream:close()
  self:_tell()
end

-- The connection broke, or had to be broken.
function WebSocket:_lose(why)
  if self.state ~= "closed" then
    self:_finish(ABNORMAL, why)
  end
end

-- ---- writing ----

-- An error in the middle of a frame leaves no way to go on.
function WebSocket._end_writing(turn, err)
  local self = turn[1]
  if err ~= nil then
    self:_lose("interrupted while it was sending")
  end
  self._lock:release()
end

local Waiting = {
  __close = function(entry)
    entry.socket._waiting = entry.socket._waiting - entry.size
  end,
}

-- Waits for the right to write so many bytes: a value for a `<close>` variable; nil, "full" if too
-- much is waiting.
function WebSocket:_begin_writing(size)
  local lock = self._lock
  if not lock:acquire(0) then
    if self._waiting > 0 and self._waiting + size > self._opts.max_queue then
      return nil
    end
    self._waiting = self._waiting + size
    local _ <close> = setmetatable({ socket = self, size = size }, Waiting)
    lock:acquire()
  end
  return self._writing
end

-- By the holder of the lock: sends all of it, or breaks the connection.
function WebSocket:_send(bytes)
  local stream, limit = self._stream, self._opts.send_timeout
  local ok, why
  if limit then
    ok, why = with_timeout(limit, stream.send, stream, bytes)
  else
    ok, why = stream:send(bytes)
  end
  if not ok then
    self:_lose(why == "timeout" and "the peer does not read" or why)
  end
  return ok
end

-- The same for whole frames, and before and behind them what others have left to be said.
function WebSocket:_write(bytes)
  repeat
    if self._pong or self._ping then
      bytes = (self._pong or "") .. (self._ping or "") .. bytes
      self._pong, self._ping = nil, nil
    end
    if bytes ~= "" and not self:_send(bytes) then
      return false
    end
    bytes = ""
  until not (self._pong or self._ping)
  return true
end

function WebSocket:_write_message(kind, data)
  local codec = self._codec
  local bytes, more = codec:encode(kind, data)
  while self:_write(bytes) do
    if not more then
      return true
    elseif self.state ~= "open" then
      break
    end
    bytes, more = codec:continue()
  end
  return self:_over()
end

-- What streams say that would have to wait and must not.
local WAITS = { timeout = true, wantread = true, wantwrite = true }

-- Sends a frame as far as that is possible without waiting; the lock is held. What is left of it;
-- "" if nothing is.
function WebSocket:_try(frame)
  local stream = self._stream
  stream:settimeout(0)
  local ok, why, sent = stream:send(frame)
  stream:settimeout(nil)
  if not ok and not WAITS[why] then
    self:_lose(why)
    return ""
  end
  return ok and "" or frame:sub(sent + 1)
end

-- Sends a ping or pong without waiting, though perhaps later; only the latest one, if it comes to
-- that.
function WebSocket:_say(kind, data)
  local frame = self._codec:control(kind, data)
  if not self._lock:acquire(0) then
    self["_" .. kind] = frame
    return
  end
  local rest = self:_try(frame)
  if rest == "" then
    self._lock:release()
    return
  end
  moonlet.spawn(function()
    local _ <close> = self._writing
    if self:_send(rest) then
      self:_write("")
    end
  end)
end

-- ---- reading ----

function WebSocket._end_reading(turn)
  turn[1]._receiving = false
  turn[1]:_tell()
end

-- The right to read, for a `<close>` variable.
function WebSocket:_begin_reading()
  self._receiving = true
  return self._reading
end

function WebSocket:_recv(seconds)
  local stream = self._stream
  if not seconds then
    return stream:recv()
  elseif seconds > 0 then
    return with_timeout(seconds, stream.recv, stream)
  end
  stream:settimeout(0)
  local bytes, why = stream:recv()
  stream:settimeout(nil)
  return bytes, why
end

-- When the peer has been silent for too long; nil: never.
function WebSocket:_patience()
  local opts = self._opts
  if self._pinged then
    return self._pinged + opts.ping_timeout
  end
  return opts.ping_interval and self._heard + opts.ping_interval
end

function WebSocket:_probe()
  if self._pinged then
    self:_lose("the peer does not answer pings")
  else
    self._pinged = now()
    self:_say("ping", "")
  end
end

-- Waits for bytes: true, or false at the deadline.
function WebSocket:_fill(deadline)
  local patience = self:_patience()
  local due = patience and deadline and math.min(patience, deadline) or patience or deadline
  local bytes, why = self:_recv(due and due - now())
  if bytes then
    self._codec:feed(bytes)
    if patience then
      self._heard, self._pinged = now(), nil
    end
  elseif not WAITS[why] then
    self:_lose(why)
  elseif patience and patience <= now() then
    self:_probe()
  else
    return false
  end
  return true
end

-- Goes on by one event, or one read unless it is late: a message's data and kind; true after
-- something else, false at the deadline, nil at the end.
function WebSocket:_step(deadline, is_late)
  local kind, data, reason = self._codec:next()
  if kind == "text" or kind == "binary" then
    return data, kind
  elseif kind == "ping" then
    if self.state == "open" then
      self:_say("pong", data)
    end
  elseif kind == "close" then
    self:_part(data, reason, data ~= NO_CODE and data or nil, "", false)
  elseif kind == "error" then
    self:_part(data, reason, data, reason, true)
  elseif kind ~= "pong" then
    if self._code then
      return nil
    end
    return not is_late and self:_fill(deadline)
  end
  return true
end

-- ---- parting ----

-- Has heard the peer's last frame, or will hear no more of it, and says so, unless that has been
-- said already. That is quickly done, or else by a greenlet. A peer that may still be sending has
-- to be heard out, or it would lose our last frame.
function WebSocket:_part(code, reason, own_code, own_reason, linger)
  self:_note(code, reason)
  if self._has_said_close or self.state == "closed" then
    return self:_finish()
  end
  self.state = "closing"
  local frame = self._codec:control("close", own_code, own_reason)
  local has_lock = self._lock:acquire(0)
  if has_lock then
    frame = self:_try(frame)
    if frame == "" and not linger then
      self._lock:release()
      return self:_finish()
    end
  end
  moonlet.spawn(self._say_goodbye, self, frame, has_lock, linger)
end

function WebSocket:_say_goodbye(frame, has_lock, linger)
  local stream = self._stream
  with_timeout(self._opts.close_timeout, function()
    has_lock = has_lock or self._lock:acquire()
    local ok = self._has_said_close or stream:send(frame)
    self._lock:release()
    has_lock = false
    if ok and linger then
      if stream.shutdown then
        stream:shutdown("send")
      end
      repeat until not stream:recv()
    end
  end)
  self:_finish()
  if has_lock then
    self._lock:release()
  end
end

-- Says the last word and waits for the peer's, by reading if nobody else does.
function WebSocket:_shake_hands(frame)
  do
    local _ <close> = self:_begin_writing(0)
    self._has_said_close = self:_write(frame)
  end
  while self.state == "closing" do
    if self._receiving or self._code then
      self:_await_news()
    else
      local _ <close> = self:_begin_reading()
      self:_step()
    end
  end
end

-- ---- methods ----

--- Of a server whose state is "connecting": answers the request. Other methods do it by
-- themselves when it is time.
---@param opts? table  as for websocket.accept; they override those that were given before
---@return moonlet.websocket.WebSocket|nil # itself
---@return string # why not: "origin not allowed", or the connection broke
---@return integer # status of the response that says so
---@return table # its header fields: { name, value } ...
function WebSocket:accept(opts)
  if self.state ~= "connecting" then
    error("the WebSocket is accepted already", 2)
  end
  local all, problem = options.read(false, self._opts, opts)
  if not all then
    bad_argument(1, "accept", problem)
  end
  local ok, message, status, headers = server.check_origin(self._asked, all)
  if not ok then
    self:_note(ABNORMAL, message)
    self.state = "closed"
    self._refusal = { message, status, headers }
    return nil, message, status, headers
  end
  local response, protocol, compression = server.answer(self._asked, all)
  self.protocol = protocol
  if self._take then
    self._stream, self._leftover = self._take()
  end
  self._asked, self._take = nil, nil
  local _ <close> = self:_begin_writing(0)
  self:_open(false, all, compression, self._leftover)
  self._leftover = nil
  ok, message = self._stream:send(response)
  if not ok then
    self:_lose(message)
    return nil, message
  end
  self:_write("")
  return self
end

-- Whether frames can be sent, after the handshake if that is still to be done.
function WebSocket:_is_open()
  return self.state == "open" or self.state == "connecting" and self:accept() ~= nil
end

--- Sends a message. Waits while the peer does not take it, and while others' are being sent.
-- A greenlet that is killed, or timed out, while it sends breaks the connection.
---@param data string
---@param kind? "text"|"binary"  "text" if nothing is said, which must be UTF-8
---@return boolean? # true
---@return string reason # "closed"; "full": more than `max_queue` bytes are waiting already
---@return integer # with "closed": the code
---@return string # with "closed": the peer's reason, or what went wrong
function WebSocket:send(data, kind)
  check_string(data, 1, "send")
  kind = kind or "text"
  if kind ~= "text" and kind ~= "binary" then
    bad_argument(2, "send", ("invalid option '%s'"):format(tostring(kind)))
  elseif kind == "text" and not core.is_utf8(data) then
    bad_argument(1, "send", "text must be UTF-8")
  elseif not self:_is_open() then
    return self:_over()
  end
  local turn <close> = self:_begin_writing(#data)
  if not turn then
    return nil, "full"
  elseif self.state ~= "open" then
    return self:_over()
  end
  return self:_write_message(kind, data)
end

--- Waits for a message. Pings are answered only while somebody receives.
---@param timeout? number|moonlet.Timeout  seconds
---@return string|nil data
---@return "text"|"binary"|"timeout"|"closed" # its kind, or why there is none
---@return integer # with "closed": the code; 1005 if the peer gave none, 1006 if the connection
---   broke
---@return string # with "closed": the peer's reason, or what went wrong
---@raise an error if another greenlet is receiving
function WebSocket:receive(timeout)
  local seconds = check_timeout(timeout, 1, "receive")
  local deadline = seconds and now() + seconds
  if self.state == "connecting" then
    self:accept()
  end
  while self._receiving do
    if self.state == "open" then
      error("another greenlet is receiving from the WebSocket", 2)
    elseif not self:_await_news(deadline) then
      return nil, "timeout"
    end
  end
  if not self._codec then
    return self:_over()
  end
  local _ <close> = self:_begin_reading()
  local is_late = false -- others' pings may go on for ever
  while true do
    local data, kind = self:_step(deadline, is_late)
    if kind then
      return data, kind
    elseif data == nil then
      return self:_over()
    elseif not data then
      return nil, "timeout"
    end
    is_late = deadline and deadline <= now()
  end
end

--- Sends a ping; whoever receives takes the answer. See also the option `ping_interval`.
---@param data? string  at most 125 bytes
---@return boolean? # true
---@return string # "closed"
---@return integer # the code
---@return string # the peer's reason, or what went wrong
function WebSocket:ping(data)
  data = data or ""
  check_string(data, 1, "ping")
  if #data > MAX_CONTROL then
    bad_argument(1, "ping", "too long")
  elseif not self:_is_open() then
    return self:_over()
  end
  local _ <close> = self:_begin_writing(0)
  if self.state == "open" and self:_write(self._codec:control("ping", data)) then
    return true
  end
  return self:_over()
end

--- Closes the connection in agreement with the peer; messages that are still on their way here
-- are dropped. Waits for the peer's answer, `close_timeout` seconds at most, and closes the
-- connection in any case. A second call waits for the end of the first. Of a request that is not
-- answered yet: with a code it is accepted first, so that the peer learns the code; without one
-- nothing is sent, and it may be answered otherwise.
---@param code? integer  1000 if nothing is said
---@param reason? string  at most 123 bytes of UTF-8
---@return boolean? # true once both ends have agreed
---@return string # "closed": it broke, or the peer did not answer in time
---@return integer # the code
---@return string # what went wrong
function WebSocket:close(code, reason)
  local has_code = code ~= nil
  code, reason = code or NORMAL, reason or ""
  if math.type(code) ~= "integer" or not core.is_close_code(code) then
    bad_argument(1, "close", "no close code")
  end
  check_string(reason, 2, "close")
  if #reason > MAX_REASON or not core.is_utf8(reason) then
    bad_argument(2, "close", "at most 123 bytes of UTF-8 expected")
  end
  if self.state == "connecting" and not has_code then
    self:_note(code, reason)
    self.state = "closed"
  elseif self:_is_open() then
    self.state = "closing"
    local _ <close> = setmetatable({ self }, { __close = self._end_closing })
    with_timeout(self._opts.close_timeout, self._shake_hands, self,
                 self._codec:control("close", code, reason))
  end
  while self.state == "closing" do
    self:_await_news()
  end
  if self._code == ABNORMAL then
    return self:_over()
  end
  return true
end

function WebSocket._end_closing(turn)
  turn[1]:_lose("the peer did not answer the close")
end

--- Receives a message, so that `for data, kind in ws do` goes through all of them.
function WebSocket:__call()
  return self:receive()
end

local function is_exit(err)
  return type(err) == "table" and err.is and err:is(moonlet.GreenletExit)
end

-- After an error there is no waiting.
function WebSocket:__close(err)
  if err == nil then
    self:close()
  elseif self.state == "open" and self._lock:acquire(0) then
    local code = is_exit(err) and GOING_AWAY or INTERNAL
    self:_try(self._codec:control("close", code))
    self._lock:release()
    self:_finish(code, "")
  elseif self.state ~= "connecting" then
    self:_lose("closed after an error")
  end
end

function WebSocket:__tostring()
  local state = self.state
  if state == "closed" then
    state = ("closed (%d)"):format(self._code)
  end
  return ("<WebSocket: %s, %s>"):format(self._name, state)
end

return WebSocket
