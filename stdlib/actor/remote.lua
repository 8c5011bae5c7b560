-- Actors of other processes, by way of ZeroMQ: a listener is a ROUTER, a connection a DEALER.

local AsyncResult = require("moonlet.event").AsyncResult
local Event = require("moonlet.event").Event
local Object = require "moonlet.class"
local moonlet = require "moonlet"
local zmq = require "moonlet.zmq"

local HEARTBEAT = 1000 -- milliseconds; a peer that is silent for three of them is lost
local LINGER = 1 -- seconds that a closed socket's last messages may take

-- After a connection of a listener's was lost, when to see whose it was, in seconds.
local PROBES = { 0, 0.05, 0.2, 1 }

local remote

return function(actor, Actor)
  if remote then
    return remote
  end
  remote = {}

  -- ---- our own actors, by names and numbers ----

  local locals = {}
  local by_id = setmetatable({}, { __mode = "v" })

  -- Numbers of another process are others', also if it is the same program started again.
  local process = (zmq.curve_keypair() or ("%016x"):format(math.random(0))):sub(1, 16)

  function locals.id_of(value)
    if getmetatable(value) ~= Actor then
      return nil
    end
    local id = process .. "#" .. value._number
    by_id[id] = value
    return id
  end

  function locals.find(target)
    local which = by_id[target] or actor.whereis(target)
    return which and not which:dead() and which or nil
  end

  -- ---- remote actors ----

  --- An actor of another process: connection:actor(name), or one that came in a message.
  --- What is said of moonlet.actor.Actor holds for it, but for "lost", which is returned or told as
  --- the reason when the connection has broken.
  ---@class moonlet.actor.Remote: Object
  local Remote = Object:extend("Remote")

  function Remote:new(channel, target)
    self._channel = channel
    self._target = target
  end

  local function check_message(message, name)
    if message == nil then
      error(("bad argument #1 to '%s' (a message expected, got nil)"):format(name), 3)
    end
  end

  local function encode(self, name, ...)
    local ok, text = pcall(self._channel._encode, self._channel, name, self._target, ...)
    if not ok then
      error(("bad argument #1 to '%s' (%s)"):format(name, text), 3)
    end
    return text
  end

  --- Sends a message; waits while the connection is not there yet, or has no room.
  --- That the actor has ended is not noticed.
  ---@param message any
  ---@param timeout? number|Timeout seconds
  ---@return true|nil
  ---@return string # "timeout", "lost" or "closed"
  function Remote:send(message, timeout)
    check_message(message, "send")
    return self._channel:_transmit(encode(self, "send", message), timeout)
  end

  --- Sends a message and waits for the reply.
  ---@param message any
  ---@param timeout? number|Timeout seconds
  ---@return any ... # its reply; nil and "timeout", "lost" or "closed"; nil, "dead" and why
  function Remote:call(message, timeout)
    check_message(message, "call")
    local number = self._channel:_number()
    return self._channel:call(number, encode(self, "call", number, message), timeout)
  end

  function Remote:_watch(tell)
    return self._channel:watch(self._target, tell)
  end

  function Remote:_tie(other)
    self._channel:_post("tie", self._target, other)
  end

  function Remote:_untie(other)
    self._channel:_post("untie", self._target, other)
  end

  --- Waits for its end.
  ---@param timeout? number|Timeout seconds
  ---@return boolean # false at the timeout
  ---@return any # the reason, as in Down; "dead" if there was none
  function Remote:wait(timeout)
    local result = AsyncResult()
    local cancel = self:_watch(function(reason)
      result:set(true, reason)
    end)
    local _ <close> = setmetatable({}, { __close = cancel })
    local ended, reason = result:get(timeout)
    if not ended then
      return false
    end
    return true, reason
  end

  --- Ends it, and waits for the end.
  ---@param timeout? number|Timeout seconds; 0: does not wait
  ---@return boolean # whether it has ended
  function Remote:kill(timeout)
    self._channel:_post("kill", self._target)
    return (self:wait(timeout))
  end

  function Remote:__tostring()
    return ("<Remote %s at %s>"):format(self._target, self._channel)
  end

  local Channel = require "moonlet.actor.channel"(actor, locals, Remote)

  -- ---- sockets ----

  local context
  local open = {} -- listeners and connections, as keys

  local function set_up(type, setup)
    context = context or zmq.Context()
    local socket = context:socket(type)
    socket:setsockopt(zmq.HEARTBEAT_IVL, HEARTBEAT)
    socket:setsockopt(zmq.HEARTBEAT_TIMEOUT, 3 * HEARTBEAT)
    socket:setsockopt(zmq.LINGER, LINGER * 1000)
    if setup then
      setup(socket)
    end
    return socket
  end

  local function give_up(socket, message, errno)
    socket:close()
    return nil, message, errno
  end

  -- One bad message is no reason to hear no others: it is reported, and dropped.
  local function receive(channel, text)
    local ok, err = moonlet.try(channel._receive, channel, text)
    if not ok then
      moonlet.spawn(error, ("%s: bad message: %s"):format(channel, err), 0)
    end
  end

  -- ---- connections ----

  --- A connection to a process that listens, which is made anew when it breaks.
  ---@class moonlet.actor.Connection: Object
  local Connection = Channel:extend("Connection")

  function Connection:new(endpoint, socket)
    Connection.super.new(self)
    self._endpoint = endpoint
    self._socket = socket
    self._up = Event()
    self._reader = moonlet.spawn(self._read, self)
    self._monitor = socket:monitor(zmq.EVENT_HANDSHAKE_SUCCEEDED + zmq.EVENT_DISCONNECTED)
    self._watcher = moonlet.spawn(self._observe, self)
  end

  function Connection:_read()
    for text in function() return (self._socket:receive(math.huge)) end do
      receive(self, text)
    end
  end

  function Connection:_observe()
    for event in function() return (self._monitor:receive_event(math.huge)) end do
      if event == zmq.EVENT_HANDSHAKE_SUCCEEDED then
        self._was_up = true
        self._up:set()
      elseif event == zmq.EVENT_DISCONNECTED and self._up:is_set() then
        self._up:clear()
        self:_drain()
        self:_lose()
      end
    end
  end

  -- What had arrived before the connection broke.
  function Connection:_drain()
    for text in function() return (self._socket:receive(0)) end do
      receive(self, text)
    end
  end

  function Connection:_is_lost()
    return self._was_up and not self._up:is_set()
  end

  function Connection:_transmit(text, timeout)
    if self._socket:closed() then
      return nil, "closed"
    elseif self:_is_lost() then
      return nil, "lost"
    end
    local ok, reason = self._socket:send(text, 0, timeout)
    return ok, reason
  end

  --- The actor of that name there. Whether there is one is not asked.
  ---@param name string
  ---@return moonlet.actor.Remote
  function Connection:actor(name)
    if type(name) ~= "string" then
      error(("bad argument #1 to 'actor' (string expected, got %s)"):format(type(name)), 2)
    end
    return self:_remote(name)
  end

  --- Waits until it is there.
  ---@param timeout? number|Timeout seconds
  ---@return boolean # false at the timeout
  function Connection:wait(timeout)
    return self._up:wait(timeout)
  end

  --- Closes it: calls on their way return nil and "lost". A second call does nothing.
  function Connection:close()
    if open[self] then
      open[self] = nil
      self._up:clear()
      self._was_up = true
      self._socket:close()
      self._monitor:close()
      self:_lose()
      moonlet.killall { self._reader, self._watcher }
    end
  end

  Connection.__close = Connection.close

  function Connection:__tostring()
    return ("<Connection to %s: %s>"):format(self._endpoint, self._socket:closed() and "closed"
      or self._up:is_set() and "up" or self._was_up and "lost" or "not there yet")
  end

  function remote.connect(endpoint, setup)
    for connection in pairs(open) do
      if connection:is(Connection) and connection._endpoint == endpoint then
        return connection
      end
    end
    local socket = set_up(zmq.DEALER, setup)
    socket:setsockopt(zmq.IMMEDIATE, 1)
    socket:setsockopt(zmq.RECONNECT_IVL_MAX, 1000)
    local connection = Connection(endpoint, socket)
    open[connection] = true
    local ok, message, errno = socket:connect(endpoint)
    if not ok then
      connection:close()
      return nil, message, errno
    end
    return connection
  end

  -- ---- listeners ----

  -- The other end of one of a listener's connections.
  local Peer = Channel:extend("Peer")

  function Peer:new(listener, identity)
    Peer.super.new(self)
    self._listener = listener
    self._identity = identity
  end

  function Peer:_is_lost()
    return self._listener._peers[self._identity] ~= self
  end

  function Peer:_transmit(text, timeout)
    if self:_is_lost() then
      return nil, "lost"
    end
    local ok, reason = self._listener._socket:send({ self._identity, text }, 0, timeout)
    if not ok and reason ~= "timeout" then
      self._listener:_forget(self)
      reason = "lost"
    end
    return ok, reason
  end

  function Peer:__tostring()
    return ("<peer of %s>"):format(self._listener)
  end

  --- What lets other processes reach our actors.
  ---@class moonlet.actor.Listener: Object
  ---@field endpoint string where it listens, with the port that was chosen
  local Listener = Object:extend("Listener")

  function Listener:new(endpoint, socket)
    self.endpoint = endpoint
    self._socket = socket
    self._peers = {} -- identity -> Peer
    self._monitor = socket:monitor(zmq.EVENT_DISCONNECTED)
    self._greenlets = { moonlet.spawn(self._read, self), moonlet.spawn(self._observe, self) }
  end

  function Listener:_read()
    for identity, text in function() return self._socket:receive(math.huge) end do
      local peer = self._peers[identity]
      if not peer then
        peer = Peer(self, identity)
        self._peers[identity] = peer
      end
      receive(peer, text)
    end
  end

  function Listener:_forget(peer)
    if self._peers[peer._identity] == peer then
      self._peers[peer._identity] = nil
      peer:_lose()
    end
  end

  -- A ROUTER does not say who has gone, but refuses to send to him.
  function Listener:_observe()
    for _ in function() return (self._monitor:receive_event(math.huge)) end do
      for _, pause in ipairs(PROBES) do
        moonlet.sleep(pause)
        if self._socket:closed() then
          return
        end
        for _, peer in pairs(self._peers) do
          peer:_post("probe")
        end
      end
    end
  end

  --- Closes it. A second call does nothing.
  function Listener:close()
    if open[self] then
      open[self] = nil
      self._socket:close()
      self._monitor:close()
      for _, peer in pairs(self._peers) do
        self:_forget(peer)
      end
      moonlet.killall(self._greenlets)
    end
  end

  Listener.__close = Listener.close

  function Listener:__tostring()
    return ("<Listener at %s: %s>"):format(self.endpoint,
      self._socket:closed() and "closed" or "open")
  end

  function remote.listen(endpoint, setup)
    local socket = set_up(zmq.ROUTER, setup)
    socket:setsockopt(zmq.ROUTER_MANDATORY, 1)
    local bound, message, errno = socket:bind(endpoint)
    if not bound then
      return give_up(socket, message, errno)
    end
    local listener = Listener(bound, socket)
    open[listener] = true
    return listener
  end

  -- ---- the end ----

  function remote.shutdown(timeout)
    local list = {}
    for each in pairs(open) do
      list[#list + 1] = each
    end
    for _, each in ipairs(list) do
      each:close()
    end
    if not context then
      return true
    end
    local ok, reason = context:term(timeout)
    if ok then
      context = nil
    end
    return ok, reason
  end

  return remote
end
