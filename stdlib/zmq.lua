--- ZeroMQ: sockets that carry messages, between greenlets, threads, processes and machines.
--
--     local context <close> = zmq.Context()
--     local socket = context:socket(zmq.REQ)
--     assert(socket:connect("tcp://127.0.0.1:5555"))
--     socket:send("hello")
--     print(socket:receive())
--
-- Every call that waits blocks its greenlet only. The module has all constants of zmq.h, without
-- their "ZMQ_": zmq.REQ, zmq.LINGER, zmq.POLLIN ...
-- A socket belongs to the Lua state that made it, and so to one thread.
-- Differs: errors | raised | nil, a message and the errno, as for all input and output
-- Differs: times in options (LINGER, RCVTIMEO ...) | milliseconds | milliseconds, as libzmq has
--   them; in arguments they are seconds

local AsyncResult = require("moonlet.event").AsyncResult
local Object = require "moonlet.class"
local core = require "moonlet.zmq.core"
local edge = require "moonlet.edge.core"
local moonlet = require "moonlet"
local select_module = require "moonlet.select"
local wait_read = require("moonlet.socket").wait_read

local ZContext, ZSocket = core.Context, core.Socket

local zmq = setmetatable({
  Context = core.context,
  version = core.version,
  has = core.has,
  curve_keypair = core.curve_keypair,
  curve_public = core.curve_public,
  z85_encode = core.z85_encode,
  z85_decode = core.z85_decode,
}, { __index = core.constants })

for name, operation in pairs(core.operations) do
  ZSocket[name] = edge.method(operation)
end

-- ---- contexts ----

local function new_socket(context, type)
  local socket, message, errno = core.socket(context, type)
  if not socket then
    return nil, message, errno
  end
  edge.attach(socket)
  return socket
end

--- A new socket.
-- Source: zmq_socket.
---@param type integer zmq.REQ ...
---@return moonlet.zmq.ZSocket|nil
---@return string # the reason
---@return integer # the errno
function ZContext:socket(type)
  return new_socket(self, type)
end

local function finish(context, linger, timeout)
  local fd, message, errno = context:_shutdown(linger)
  if not fd then
    return not message or nil, message, errno
  end
  local ok, reason = wait_read(fd, timeout)
  if not ok then
    return nil, reason
  end
  context:_ended()
  return true
end

--- Closes all of its sockets and waits until what they have sent has gone.
-- Greenlets that wait for one of the sockets get nil, "closed". Called again, it waits on.
-- Source: zmq_ctx_term.
-- Differs: it waits until somebody closes its sockets | it closes them
---@param timeout? number|Timeout seconds
---@return true|nil
---@return string # "timeout", or the reason
---@return integer # the errno
function ZContext:term(timeout)
  return finish(self, nil, timeout)
end

--- The same, with another time for the last messages to go.
-- Source: pyzmq's Context.destroy.
---@param linger number seconds; 0: they are dropped
---@param timeout? number|Timeout seconds
---@return true|nil
---@return string # "timeout", or the reason
---@return integer # the errno
function ZContext:destroy(linger, timeout)
  return finish(self, linger, timeout)
end

-- Where an error ends the block, nobody waits for messages.
function ZContext:__close(err)
  finish(self, err ~= nil and 0 or nil)
end

-- ---- sockets ----

--- Receives messages that begin with the prefix (SUB).
-- Source: pyzmq's Socket.subscribe.
---@param prefix string "": all
---@return true|nil
---@return string # the reason
---@return integer # the errno
function ZSocket:subscribe(prefix)
  return self:setsockopt(zmq.SUBSCRIBE, prefix)
end

--- Takes one subscription back.
---@param prefix string
---@return true|nil
---@return string # the reason
---@return integer # the errno
function ZSocket:unsubscribe(prefix)
  return self:setsockopt(zmq.UNSUBSCRIBE, prefix)
end

local monitors = 0

--- A socket that receives what happens to this one's connections: see receive_event.
-- Source: pyzmq's Socket.get_monitor_socket.
---@param events? integer the sum of zmq.EVENT_CONNECTED ...; all if nothing is said
---@return moonlet.zmq.ZSocket|nil
---@return string # the reason
---@return integer # the errno
function ZSocket:monitor(events)
  monitors = monitors + 1
  local endpoint = "inproc://moonlet.monitor." .. monitors
  local ok, message, errno = self:_monitor(endpoint, events)
  if not ok then
    return nil, message, errno
  end
  local monitor = new_socket(self:context(), zmq.PAIR)
  if monitor then
    monitor:connect(endpoint)
  end
  return monitor
end

--- Waits for an event; for sockets that `monitor` has returned.
-- After zmq.EVENT_MONITOR_STOPPED no more will come: the other socket is closed.
-- Source: pyzmq's recv_monitor_message.
---@param timeout? number|Timeout seconds
---@return integer|nil # zmq.EVENT_CONNECTED ...
---@return integer|string # what belongs to it: a descriptor, an errno; or "timeout", "closed"
---@return string # the endpoint
function ZSocket:receive_event(timeout)
  local numbers, endpoint, errno = self:receive(timeout)
  if not numbers then
    return nil, endpoint, errno
  end
  local event, value = string.unpack("=I2I4", numbers)
  return event, value, endpoint
end

-- ---- polling ----

--- Waits for several sockets and descriptors at once.
-- Source: pyzmq's Poller.
---@class moonlet.zmq.Poller: Object
---@overload fun(): moonlet.zmq.Poller
local Poller = Object:extend("Poller")

zmq.Poller = Poller

--- Nothing is registered yet.
function Poller:new()
  self._objects = {} -- in the order of their registration
  self._wanted = {} -- object -> events
end

local function is_socket(object)
  return getmetatable(object) == ZSocket
end

--- From now on watches a socket or a descriptor; again for the same: replaces the events.
---@param object any a socket of ZeroMQ's, a descriptor, or an object with getfd
---@param events? integer zmq.POLLIN, zmq.POLLOUT or their sum, if nothing is said
function Poller:register(object, events)
  if object == nil then
    error("bad argument #1 to 'register' (value expected)", 2)
  end
  if not self._wanted[object] then
    table.insert(self._objects, object)
  end
  self._wanted[object] = events or zmq.POLLIN + zmq.POLLOUT
end

--- Forgets it.
---@param object any
function Poller:unregister(object)
  if not self._wanted[object] then
    error("bad argument #1 to 'unregister' (not registered)", 2)
  end
  self._wanted[object] = nil
  for i, other in ipairs(self._objects) do
    if other == object then
      table.remove(self._objects, i)
      return
    end
  end
end

-- What to wait for: descriptors to be read and to be written; and sockets that are ready now.
local function survey(self)
  local ready, reading, writing = {}, {}, {}
  for _, object in ipairs(self._objects) do
    local wanted = self._wanted[object]
    if not is_socket(object) then
      if wanted & zmq.POLLIN ~= 0 then
        table.insert(reading, object)
      end
      if wanted & zmq.POLLOUT ~= 0 then
        table.insert(writing, object)
      end
    elseif object:closed() then
      error("bad socket registered: " .. tostring(object), 3)
    else
      local events = object:events() & wanted
      if events ~= 0 then
        table.insert(ready, { object, events })
      end
      table.insert(reading, object:getfd())
    end
  end
  return ready, reading, writing
end

-- Adds the descriptors that are ready.
local function add_descriptors(self, ready, readable, writable)
  local events = {}
  for _, object in ipairs(readable) do
    events[object] = zmq.POLLIN
  end
  for _, object in ipairs(writable) do
    events[object] = (events[object] or 0) | zmq.POLLOUT
  end
  for _, object in ipairs(self._objects) do
    if not is_socket(object) and events[object] then
      table.insert(ready, { object, events[object] })
    end
  end
end

--- Waits until something registered is ready.
-- Differs: the timeout is in milliseconds | in seconds
---@param timeout? number|Timeout seconds
---@return any[][] # of {object, events}; empty at the timeout
function Poller:poll(timeout)
  local deadline = type(timeout) == "number" and moonlet.now() + timeout
  while true do
    local ready, reading, writing = survey(self)
    local limit = #ready > 0 and 0 or timeout
    local readable, writable = select_module.select(reading, writing, nil, limit)
    add_descriptors(self, ready, readable, writable)
    if #ready > 0 then
      return ready
    end
    if deadline then
      timeout = deadline - moonlet.now()
      if timeout <= 0 then
        return survey(self)
      end
    end
  end
end

local function wait_for_events(socket, events, timeout)
  local poller = Poller()
  poller:register(socket, events)
  local ready = poller:poll(timeout)
  return ready[1] and ready[1][2] or 0
end

--- ZSocket:poll([events [, timeout]]): waits until it can receive or send, as the events say.
-- With one argument, that is the timeout.
-- Source: pyzmq's Socket.poll.
---@param events? integer zmq.POLLIN, if nothing is said, zmq.POLLOUT, or their sum
---@param timeout? number|Timeout seconds
---@return integer|nil # those that apply, 0 at the timeout
---@return string # "closed", by another greenlet too
function ZSocket:poll(...)
  local events, timeout = ...
  if select("#", ...) < 2 then
    events, timeout = nil, events
  end
  if self:closed() then
    return nil, "closed"
  end
  local ok, found = moonlet.try(wait_for_events, self, events or zmq.POLLIN, timeout)
  if ok then
    return found
  elseif self:closed() then
    return nil, "closed"
  end
  error(found, 0)
end

-- ---- proxies ----

local CANNOT_RECEIVE = { [zmq.PUB] = true, [zmq.PUSH] = true }

local function await_room(to, capture)
  for _, socket in ipairs { to, capture } do
    local events, message = socket:poll(zmq.POLLOUT, nil)
    if not events then
      return nil, message
    end
  end
  return true
end

-- Passes messages on until one of the sockets fails; returns why.
local function pump(from, to, capture)
  while true do
    local room, message, errno = from:_pass(to, capture, math.huge)
    if room == false then
      room, message = await_room(to, capture)
    end
    if not room then
      return message, errno
    end
  end
end

--- Passes messages on between two sockets, in both directions, until one is closed.
-- Source: zmq_proxy.
---@param frontend moonlet.zmq.ZSocket
---@param backend moonlet.zmq.ZSocket
---@param capture? moonlet.zmq.ZSocket gets a copy of each message
---@return nil
---@return string # "closed", "Context was terminated" ...
---@return integer # the errno
function zmq.proxy(frontend, backend, capture)
  local result = AsyncResult()
  local greenlets = {}
  local _ <close> = setmetatable({}, { __close = function()
    moonlet.killall(greenlets)
  end })
  for _, pair in ipairs { { frontend, backend }, { backend, frontend } } do
    if not CANNOT_RECEIVE[pair[1]:getsockopt(zmq.TYPE)] then
      table.insert(greenlets, moonlet.spawn(function()
        result:set(pump(pair[1], pair[2], capture))
      end))
    end
  end
  return nil, result:get()
end

return zmq
