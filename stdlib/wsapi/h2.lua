-- A client that speaks HTTP/2: requests at the same time, each in a greenlet of its own.
--
-- The connection's greenlet sends, another one reads; both hand what happens to the streams.

local Stream = require "moonlet.wsapi.h2_stream"
local event = require "moonlet.event"
local moonlet = require "moonlet"
local nghttp2 = require "moonlet.nghttp2"

local linger = require("moonlet.wsapi.connection").class._linger
local getcurrent, now = moonlet.getcurrent, moonlet.now

local Connection = {}
Connection.__index = Connection
Connection.__name = "moonlet.wsapi.Connection2"

-- Most that a setting can be.
local MAX = 0x7fffffff

local function new(server, sock, host, port)
  local self = setmetatable({
    server = server,
    sock = sock,
    host = host,
    port = port,
    session = nghttp2.new("server", {
      streams = math.min(server.max_streams, MAX),
      window = math.min(server.stream_window, MAX),
      header_bytes = server._limits.header_bytes and math.min(server._limits.header_bytes, MAX),
    }),
    streams = {},          -- those that are open, by their numbers
    greenlets = {},        -- of streams that are answered, open or not
    running = 0,           -- how many they are
    something = event.Event(), -- to be sent
    reader = nil,
    begun = now(),
    quiet_since = now(),   -- when the last of them has ended
    head_since = false,    -- when the head began that is not complete
    settled = false,       -- the client has accepted the settings
    ended = false,         -- nothing comes any more
    lingers = true,        -- the client may be sending
  }, Connection)
  server._handlers[getcurrent()] = self
  return self
end

-- Has the session's bytes sent.
function Connection:wake()
  self.something:set()
end

-- ---- events ----

local on = {}

function on.request(self, happened)
  local id = happened.stream
  if self.running >= 2 * self.server.max_streams then -- those that were reset may be running on
    self.session:reset(id, "REFUSED_STREAM")
    return
  end
  local stream = Stream.new(self, id, happened.head, happened.ended)
  self.streams[id] = stream
  self.running = self.running + 1
  self.greenlets[stream] = moonlet.spawn(stream.run, stream)
end

function on.data(self, happened)
  local stream = self.streams[happened.stream]
  if stream then
    stream:receive(happened.data)
  end
end

function on.trailers(self, happened)
  local stream = self.streams[happened.stream]
  if stream then
    stream.trailers = happened.fields
  end
end

on["end"] = function(self, happened)
  local stream = self.streams[happened.stream]
  if stream then
    stream:receive(nil)
  end
end

function on.drained(self, happened)
  local stream = self.streams[happened.stream]
  if stream then
    stream:drained()
  end
end

function on.sent(self, happened)
  local stream = self.streams[happened.stream]
  if stream then
    stream:answered()
  end
end

function on.close(self, happened)
  local stream = self.streams[happened.stream]
  if stream then
    self.streams[happened.stream] = nil
    stream:close(happened.left)
  end
end

function on.acknowledged(self)
  self.settled = true
end

function on.failed(self, happened)
  if happened.code ~= self.reason then
    self.server:_report(("%s: bad request: HTTP/2: %s"):format(self.host, happened.code))
  end
end

function Connection:_handle(events)
  for _, happened in ipairs(events) do
    local handle = on[happened.kind]
    if handle then
      handle(self, happened)
    end
  end
end

-- ---- reading ----

-- Until when something has to come, and the code of the error if it does not.
function Connection:_due()
  local server = self.server
  local due, code = math.huge, nil
  if self.running == 0 then
    due = self.quiet_since + server.idle_timeout
    code = next(self.streams) and "CANCEL" or "NO_ERROR"
  end
  self.head_since = self.session:in_head() and (self.head_since or now())
  if self.head_since and self.head_since + server.header_timeout < due then
    due, code = self.head_since + server.header_timeout, "ENHANCE_YOUR_CALM"
  end
  if not self.settled and self.begun + server.header_timeout < due then
    due, code = self.begun + server.header_timeout, "SETTINGS_TIMEOUT"
  end
  return due, code
end

-- What comes next; nil: nothing will. (The other greenlet's limit is another one: it sets its own
-- before each call, as this one does.)
function Connection:_receive()
  local sock, session = self.sock, self.session
  while session:want_read() do
    local due, code = self:_due()
    sock:settimeout(math.max(math.min(due - now(), self.server.idle_timeout), 0))
    local data, problem = sock:recv()
    if data then
      return data
    elseif problem ~= "timeout" then
      self.ended = true
      return nil
    elseif now() >= due then
      self:_go_away(code)
      return nil
    end
  end
end

-- The body of the greenlet that reads; `data` has come already.
local function read(self, data)
  while data do
    local events, problem = self.session:feed(data)
    if not events then
      self.server:_report(("%s: bad request: HTTP/2: %s"):format(self.host, problem))
      self.ended = true
      break
    end
    self:_handle(events)
    self:wake()
    data = self:_receive()
  end
end

-- ---- sending ----

-- Sends whatever there is to be sent, until nothing can follow; false if the client is gone.
function Connection:_send()
  local sock, session, something = self.sock, self.session, self.something
  while true do
    local text, events = session:pull()
    if events then
      self:_handle(events)
    end
    if text then
      sock:settimeout(self.server.idle_timeout)
      if not sock:send(text) then
        return false
      end
    elseif self.reader:dead() or not session:want_read() then
      return not self.ended
    else
      something:clear()
      something:wait()
    end
  end
end

-- Tells the client that no more requests are taken. Without an error, those that are there come
-- to their ends; a client that had none has sent nothing whose arrival could harm.
function Connection:_go_away(code)
  self.reason = code
  self.lingers = code ~= "NO_ERROR" or next(self.streams) ~= nil
  self.session:goaway(code)
end

-- The server stops.
function Connection:on_stop()
  self:_go_away("NO_ERROR")
  self:wake()
end

-- ---- the end ----

-- Applications find out at their next piece.
function Connection:_lose_streams()
  for id, stream in pairs(self.streams) do
    self.streams[id] = nil
    stream:close(self.session:left(id))
  end
end

-- A stream's greenlet has come to its end.
function Connection:forget(stream)
  if self.greenlets[stream] then
    self.greenlets[stream] = nil
    self.running = self.running - 1
    self.quiet_since = now()
  end
end

local function listed(greenlets)
  local list = {}
  for _, greenlet in pairs(greenlets) do
    list[#list + 1] = greenlet
  end
  return list
end

-- However it came to its end: this greenlet may have been killed.
function Connection:__close()
  self.server._handlers[getcurrent()] = self.sock
  if self.reader then
    self.reader:kill(nil, 0)
  end
  self:_lose_streams()
  moonlet.killall(listed(self.greenlets), nil, 1)
  self.session:close()
end

-- Serves a client to its end; `data` has come already.
local function serve(server, sock, host, port, data)
  local self <close> = new(server, sock, host, port)
  if server.stopping then
    self:on_stop()
  end
  self.reader = moonlet.spawn(read, self, data)
  self.reader:rawlink(function()
    self:wake()
  end)
  local ok = self:_send()
  self.reader:kill()
  self:_lose_streams()
  if ok and self.lingers then
    linger(self)
  end
  sock:close()
  moonlet.joinall(listed(self.greenlets))
end

return { serve = serve }
