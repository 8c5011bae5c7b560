-- A connection of HTTP/2: carries any number of requests, each by a stream (stream.lua).
--
-- A greenlet, the reader, is there while streams are open. What is to be sent goes out at once,
-- from whoever has caused it; if the peer does not take it, a greenlet sends the rest, the writer.

local moonlet = require "moonlet"

local now = moonlet.now

local Http2 = {}
Http2.__index = Http2

local LIMITS = { header_bytes = 262144 }

-- After so many reads, all of which may have found something at once, the others have a turn.
local MAX_READS = 16

-- How a call ends that would have had to wait: under TLS it says for what.
local WAITS = { timeout = true, wantread = true, wantwrite = true }

local is_there, nghttp2 = pcall(require, "moonlet.nghttp2")

-- Whether there is HTTP/2: nghttp2 is there.
function Http2.is_there()
  return is_there
end

-- ---- its end ----

local function stop(greenlet)
  if greenlet and greenlet ~= moonlet.getcurrent() then
    greenlet:kill(nil, 0)
  end
end

-- Ends it, and all streams with it.
function Http2:close()
  if self.closed then
    return
  end
  self.closed = true
  stop(self.reader)
  stop(self.writer)
  self.stream:close()
  self.session:close()
  local streams = self.streams
  self.streams = {}
  for _, stream in pairs(streams) do
    stream:lose("closed", false)
  end
end

-- It carries no further requests, and ends with those that it carries.
function Http2:retire()
  self.leaving = true
  if not next(self.streams) then
    self:close()
  end
end

-- A stream is over. Nobody reads while there is none; the reader may only find that out later.
local function forget(self, stream)
  self.streams[stream.id] = nil
  if next(self.streams) then
    return
  end
  self.since = now()
  if self.leaving then
    self:close()
  elseif self.reader and self.reader ~= moonlet.getcurrent() then
    self.reader:kill(nil, 0)
  end
end

-- ---- events and bytes ----

local function handle(self, events)
  for _, event in ipairs(events or {}) do
    local stream = self.streams[event.stream]
    if event.kind == "goaway" then
      self.leaving = true
    elseif event.kind == "failed" then
      self.failed = true
    elseif stream then
      stream:handle(event)
      if event.kind == "close" then
        forget(self, stream)
      end
    end
  end
end

local run_writer

-- Sends what there is to be sent, unless somebody does already.
function Http2:flush()
  while not self.writer and not self.closed do
    local data, events = self.session:pull()
    handle(self, events)
    if not data or self.closed then
      break
    end
    self.stream:settimeout(0, "t")
    local last, message, partial = self.stream:send(data)
    if not last and WAITS[message] then
      self.writer = moonlet.spawn(run_writer, self, data, partial + 1)
    elseif not last then
      self:close()
    end
  end
  if self.failed and not self.writer then
    self:close()
  end
end

run_writer = function(self, data, from)
  self.stream:settimeout(nil, "t")
  local sent = self.stream:send(data, from)
  self.writer = nil
  if sent then
    self:flush()
  else
    self:close()
  end
end

-- Bytes have come.
local function feed(self, data)
  local events = self.session:feed(data)
  handle(self, events)
  self:flush()
  if not events then
    self:close()
  end
end

-- The one before may not have ended yet.
local function run_reader(self, before)
  if before then
    before:join()
  end
  local reads = 0
  while next(self.streams) and not self.closed do
    reads = reads % MAX_READS + 1
    if reads == MAX_READS then
      moonlet.sleep(0)
    end
    self.stream:settimeout(nil, "t")
    local data = self.stream:recv()
    if data then
      feed(self, data)
    else
      self:close()
    end
  end
end

-- ---- what streams ask of it ----

-- Sends a request's head; `more`: a body follows. The number of its stream, or nil.
function Http2:submit(stream, head, more)
  if self.closed or self.leaving then
    return nil
  end
  local id = self.session:request(head, more)
  if id then
    stream.id = id
    self.streams[id] = stream
    self.used = self.used + 1
    if not self.reader or self.reader:dead() or self.since then
      self.reader = moonlet.spawn(run_reader, self, self.reader)
    end
    self.since = nil
  end
  return id
end

-- The next piece of a request's body: nil if it is not wanted any more.
function Http2:give(stream, piece, is_last)
  local ok = not self.closed and self.session:data(stream.id, piece, is_last)
  self:flush()
  return ok
end

-- So many bytes of an answer's body were read: as many may come.
function Http2:consume(stream, count)
  if not self.closed then
    self.session:consume(stream.id, count)
    self:flush()
  end
end

-- The rest of a stream is not wanted.
function Http2:cancel(stream)
  if not self.closed and self.streams[stream.id] then
    self.session:reset(stream.id, "CANCEL")
    forget(self, stream)
    self:flush()
  end
end

-- ---- for the pool ----

-- Whether it may carry another request. While nobody reads, what has come is looked at.
function Http2:is_usable()
  if not self.since or not self.reader or not self.reader:dead() then
    return not self.closed and not self.leaving
  end
  while not self.closed do
    self.stream:settimeout(0, "t")
    local data, message = self.stream:recv()
    if data then
      feed(self, data)
    elseif WAITS[message] then
      break
    else
      self:close()
    end
  end
  return not self.closed and not self.leaving
end

-- Since when it carries nothing; nil if it carries something.
function Http2:idle_since()
  return self.since
end

-- Of a stream under TLS that has agreed on "h2".
function Http2.new(stream)
  local self = setmetatable({
    stream = stream,
    session = nghttp2.new("client", LIMITS),
    streams = {}, -- by their numbers
    used = 0, -- for so many requests
    since = now(),
  }, Http2)
  self:flush()
  return self
end

return Http2
