-- The talk between two processes about their actors, whatever carries it.
--
-- A channel has calls and watches of ours under way, by number, and watches of the other side's on
-- our actors. A subclass has _transmit(text [, timeout]), which may wait and returns true, or nil
-- and a reason. When the connection breaks, all that is under way ends as "lost".

local AsyncResult = require("moonlet.event").AsyncResult
local Object = require "moonlet.class"
local moonlet = require "moonlet"
local wire = require "moonlet.actor.wire"

return function(actor, locals, Remote)
  local Channel = Object:extend("Channel")

  function Channel:new()
    self._next = 0
    self._calls = {} -- number -> function(...)
    self._serving = {} -- the other side's number -> its Call here
    self._watches = {} -- number -> function(reason)
    self._watched = {} -- the other side's number -> function that cancels
    self._remotes = setmetatable({}, { __mode = "v" }) -- target -> Remote, for there is one of each
    self._namer = function(value)
      return self:_name(value)
    end
    self._finder = function(name)
      return self:_find(name)
    end
  end

  -- ---- actors in messages ----

  function Channel:_remote(target)
    local remote = self._remotes[target]
    if not remote then
      remote = Remote(self, target)
      self._remotes[target] = remote
    end
    return remote
  end

  -- What stands for an actor: ours is the receiver's remote one, and the other way round.
  function Channel:_name(value)
    local id = locals.id_of(value)
    if id then
      return { "sender", id }
    elseif getmetatable(value) ~= Remote then
      return nil
    elseif value._channel == self then
      return { "receiver", value._target }
    elseif value._channel._endpoint then
      return { "elsewhere", value._target, value._channel._endpoint }
    end
    error(("%s cannot be sent to another process: it is reachable from here only"):format(value), 0)
  end

  function Channel:_find(name)
    local where, target, endpoint = name[1], name[2], name[3]
    if where == "sender" then
      return self:_remote(target)
    elseif where == "receiver" then
      return locals.find(target) or self:_remote("nobody")
    end
    return actor.connect(endpoint):actor(target)
  end

  -- ---- sending ----

  function Channel:_encode(...)
    local text, reason = wire.encode(self._namer, ...)
    return text or error(reason:gsub("^value %d+: ?", ""), 0)
  end

  -- For those who must not wait.
  function Channel:_post(...)
    local text = self:_encode(...)
    local ok, reason = self:_transmit(text, 0)
    if not ok and reason == "timeout" then
      moonlet.spawn(self._transmit, self, text)
    end
  end

  function Channel:_number()
    self._next = self._next + 1
    return self._next
  end

  -- Sends the text of a call, and waits for its reply.
  function Channel:call(number, text, timeout)
    local deadline = type(timeout) == "number" and moonlet.now() + timeout
    local result = AsyncResult()
    self._calls[number] = function(...)
      result:set(...)
    end
    local _ <close> = setmetatable({}, { __close = function()
      if self._calls[number] then
        self._calls[number] = nil
        self:_post("forget", number)
      end
    end })
    local ok, reason = self:_transmit(text, timeout)
    if not ok then
      return nil, reason
    end
    return result:get(deadline and deadline - moonlet.now() or timeout)
  end

  function Channel:watch(target, tell)
    local number = self:_number()
    self._watches[number] = tell
    if self:_is_lost() then
      moonlet.spawn(function()
        self:_told(number, "lost")
      end)
    else
      self:_post("watch", target, number)
    end
    return function()
      if self._watches[number] then
        self._watches[number] = nil
        self:_post("unwatch", number)
      end
    end
  end

  function Channel:_told(number, reason)
    local tell = self._watches[number]
    self._watches[number] = nil
    if tell then
      tell(reason)
    end
  end

  -- ---- receiving ----

  local handlers = {}

  function handlers.send(_, target, message)
    local which = locals.find(target)
    if which then
      which:send(message)
    end
  end

  -- A reply that cannot be sent is an error of the actor's.
  function handlers.call(self, target, number, message)
    local which = locals.find(target)
    if not which then
      return self:_post("reply", number, nil, "dead")
    end
    self._serving[number] = which:_call(message, function(...)
      self._serving[number] = nil
      local first, second, reason = ...
      if first == nil and second == "dead" then
        self:_post("reply", number, nil, "dead", self:_reason(reason))
      else
        self:_post("reply", number, ...)
      end
    end)
  end

  function handlers.forget(self, number)
    local call = self._serving[number]
    self._serving[number] = nil
    if call then
      call:_forget()
    end
  end

  function handlers.reply(self, number, ...)
    local answer = self._calls[number]
    self._calls[number] = nil
    if answer then
      answer(...)
    end
  end

  -- Reasons that cannot be sent go as text.
  function Channel:_reason(reason)
    if reason == nil or pcall(self._encode, self, reason) then
      return reason
    end
    return tostring(reason)
  end

  function handlers.watch(self, target, number)
    local which = locals.find(target)
    if not which then
      return self:_post("down", number, "dead")
    end
    self._watched[number] = which:_watch(function(reason)
      self._watched[number] = nil
      self:_post("down", number, self:_reason(reason))
    end)
  end

  function handlers.unwatch(self, number)
    local cancel = self._watched[number]
    self._watched[number] = nil
    if cancel then
      cancel()
    end
  end

  function handlers.down(self, number, reason)
    self:_told(number, reason)
  end

  function handlers.tie(_, target, other)
    local which = locals.find(target)
    if which then
      which:_tie(other)
    end
  end

  function handlers.untie(_, target, other)
    local which = locals.find(target)
    if which then
      which:_untie(other)
    end
  end

  function handlers.kill(_, target)
    local which = locals.find(target)
    if which then
      which:kill(0)
    end
  end

  local function handle(self, kind, ...)
    local handler = handlers[kind]
    if handler then
      handler(self, ...)
    end
  end

  function Channel:_receive(text)
    handle(self, wire.decode(self._finder, text))
  end

  -- ---- the end of the connection ----

  local function sorted(list)
    local numbers = {}
    for number in pairs(list) do
      numbers[#numbers + 1] = number
    end
    table.sort(numbers)
    return numbers
  end

  function Channel:_lose()
    for _, number in ipairs(sorted(self._calls)) do
      handlers.reply(self, number, nil, "lost")
    end
    for _, number in ipairs(sorted(self._watches)) do
      self:_told(number, "lost")
    end
    for _, number in ipairs(sorted(self._serving)) do
      handlers.forget(self, number)
    end
    for _, number in ipairs(sorted(self._watched)) do
      handlers.unwatch(self, number)
    end
  end

  return Channel
end
