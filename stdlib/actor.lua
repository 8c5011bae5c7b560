--- Actors: greenlets with a mailbox, which others send messages to.
--
--     local counter = actor.spawn(function(self)
--       local total = 0
--       for message, call in self:messages() do
--         total = total + message
--         if call then
--           call:reply(total)
--         end
--       end
--     end)
--     counter:send(2)
--     print(counter:call(3, 1)) --> 5, or nil and why within a second
--
-- A message is any value but nil. An actor that ends takes its calls along: they return nil and
-- "dead". Whoever monitors it gets a message, whoever is linked to it ends with it, and a
-- supervisor starts it anew. An error that ends an actor is reported like that of any greenlet.
--
-- An actor of another process is called in the same way: there `actor.listen` makes those with a
-- name reachable, here `actor.connect` leads to them. Messages go as copies then, and may hold nil,
-- booleans, numbers, strings, actors, and tables of those without metatables, 200 deep at most;
-- anything else is an error that tells where it was found. Both processes run on machines of the
-- same byte order. What `send` has sent is lost if the connection breaks before it arrives, and
-- nothing arrives twice. Who can reach the endpoint can send anything to, and kill, what is
-- registered there: options of CURVE keep strangers out, see `actor.listen`.
-- Differs: actors | not in gevent; its tutorial has them as an example | there

local AsyncResult = require("moonlet.event").AsyncResult
local Object = require "moonlet.class"
local Queue = require("moonlet.queue").Queue
local moonlet = require "moonlet"

local actor = {}

-- greenlet -> the actor that runs in it
local owners = setmetatable({}, { __mode = "k" })

-- ---- calls ----

--- A call that waits for its reply.
---@class moonlet.actor.Call: Object
---@field message any
local Call = Object:extend("Call")

function Call:new(message, answer, calls)
  self.message = message
  self._answer = answer -- function(...): gets what the call returns, once
  self._calls = calls -- of the actor, which this is one of
end

function Call:_forget()
  self._answer = nil
  self._calls[self] = nil
end

Call.__close = Call._forget

--- Has the call return these values.
---@param ... any
---@return boolean # false if it has been answered before, or has ended otherwise
function Call:reply(...)
  local answer = self._answer
  if not answer then
    return false
  end
  answer(...)
  self:_forget()
  return true
end

-- ---- messages of the system ----

--- What an actor receives when one that it monitors has ended.
---@class moonlet.actor.Down: Object
---@field actor any the one that has ended
---@field reason any nil if it returned, "killed", "lost" (the connection to it), or the error
---@overload fun(ended: any, reason?: any): moonlet.actor.Down
local Down = Object:extend("Down")

actor.Down = Down

--- For those who make up messages of their own.
---@param ended any
---@param reason? any
function Down:new(ended, reason)
  self.actor = ended
  self.reason = reason
end

function Down:__tostring()
  return ("<Down: %s: %s>"):format(self.actor, self.reason == nil and "returned" or self.reason)
end

-- ---- actors ----

--- A greenlet with a mailbox.
---@class moonlet.actor.Actor: Object
---@field trap_exits boolean while it is true, the end of a linked actor is a message (Down)
local Actor = Object:extend("Actor")

local count = 0

function Actor:new()
  count = count + 1
  self.trap_exits = false
  self._number = count
  self._inbox = Queue()
  self._calls = {} -- those not answered yet -> their numbers
  self._watches = {} -- who is to be told of the end, in order
  self._monitored, self._linked = {}, {} -- actor -> function that ends it
end

-- What ended a greenlet.
local function reason_of(greenlet)
  if not greenlet:successful() then
    return greenlet.exception
  end
  local value = greenlet.value
  return type(value) == "table" and value.is and value:is(moonlet.GreenletExit) and "killed" or nil
end

-- The calls in the order in which they came.
local function sorted_calls(calls)
  local list = {}
  for call in pairs(calls) do
    list[#list + 1] = call
  end
  table.sort(list, function(a, b)
    return calls[a] < calls[b]
  end)
  return list
end

function Actor:_end(greenlet)
  local reason = reason_of(greenlet)
  self._over = true
  for _, call in ipairs(sorted_calls(self._calls)) do
    call:reply(nil, "dead", reason)
  end
  for _, ties in ipairs { self._monitored, self._linked } do
    for _, cancel in pairs(ties) do
      cancel()
    end
  end
  local watches = self._watches
  self._watches = {}
  for _, watch in ipairs(watches) do
    watch.tell(reason)
  end
end

-- Has tell(reason) called at the end, which must not block; returns a function that takes it back.
function Actor:_watch(tell)
  local watch = { tell = tell }
  if self._over then
    moonlet.spawn(function()
      watch.tell(reason_of(self._greenlet))
    end)
  else
    table.insert(self._watches, watch)
  end
  return function()
    watch.tell = function() end
    for i, other in ipairs(self._watches) do
      if other == watch then
        table.remove(self._watches, i)
        return
      end
    end
  end
end

-- Puts a call in and returns it; answer(...) gets its results, also when the actor ends. Nothing is
-- returned by a dead actor.
function Actor:_call(message, answer)
  if self:dead() then
    answer(nil, "dead", reason_of(self._greenlet))
    return nil
  end
  local call = Call(message, answer, self._calls)
  count = count + 1
  self._calls[call] = count
  self._inbox:put(call)
  return call
end

local function check_message(message, name)
  if message == nil then
    error(("bad argument #1 to '%s' (a message expected, got nil)"):format(name), 3)
  end
end

--- Puts a message in the mailbox, and does not wait.
---@param message any
---@return true|nil
---@return string # "dead"
function Actor:send(message)
  check_message(message, "send")
  if self._greenlet:dead() then
    return nil, "dead"
  end
  self._inbox:put(message)
  return true
end

--- Sends a message and waits for the reply.
---@param message any
---@param timeout? number|Timeout seconds
---@return any ... # what the actor replies; nil and "timeout"; or nil, "dead" and the reason
function Actor:call(message, timeout)
  check_message(message, "call")
  if owners[moonlet.getcurrent()] == self then
    error("an actor cannot call itself", 2)
  end
  local result = AsyncResult()
  local _ <close> = self:_call(message, function(...)
    result:set(...)
  end)
  return result:get(timeout)
end

--- Waits for its end.
---@param timeout? number|Timeout seconds
---@return boolean # false at the timeout
---@return any # the reason: nil if it returned, "killed", or the error
function Actor:wait(timeout)
  if self._greenlet:join(timeout) then
    return true, reason_of(self._greenlet)
  end
  return false
end

--- Ends it, where it blocks, and waits for the end.
---@param timeout? number|Timeout seconds; 0: does not wait
---@return boolean # whether it has ended
function Actor:kill(timeout)
  return self._greenlet:kill(nil, timeout)
end

--- Kills it, and waits for the end. So does the end of the block of a `<close>` variable.
function Actor:close()
  self:kill()
end

Actor.__close = Actor.close

--- Whether it has ended.
---@return boolean
function Actor:dead()
  return self._greenlet:dead()
end

function Actor:__tostring()
  return ("<Actor %d%s: %s>"):format(self._number, self._name and " " .. self._name or "",
    self:dead() and "dead" or #self._inbox .. " messages")
end

-- ---- what an actor does itself ----

local function check_own(self, name)
  if owners[moonlet.getcurrent()] ~= self then
    error(("'%s' is for the actor itself"):format(name), 3)
  end
end

--- Waits for a message and takes it.
---@param timeout? number|Timeout seconds
---@return any # the message, or nil
---@return moonlet.actor.Call|nil|string # to be answered, if it was a call; or "timeout"
function Actor:receive(timeout)
  check_own(self, "receive")
  local item = self._inbox:get(timeout)
  if item == nil then
    return nil, "timeout"
  elseif getmetatable(item) == Call then
    return item.message, item
  end
  return item
end

--- For a loop over all messages: `for message, call in self:messages() do`.
---@return function
function Actor:messages()
  check_own(self, "messages")
  return function()
    return self:receive()
  end
end

--- From now on gets a Down when the other one ends; at once if it has ended already.
---@param other any an actor, here or elsewhere
function Actor:monitor(other)
  check_own(self, "monitor")
  self._monitored[other] = self._monitored[other] or other:_watch(function(reason)
    self._monitored[other] = nil
    self._inbox:put(Down(other, reason))
  end)
end

--- Takes that back. A Down that is in the mailbox stays there.
---@param other any
function Actor:demonitor(other)
  check_own(self, "demonitor")
  local cancel = self._monitored[other]
  self._monitored[other] = nil
  if cancel then
    cancel()
  end
end

-- One direction of a link: ends with the other, unless that returned.
function Actor:_tie(other)
  self._linked[other] = self._linked[other] or other:_watch(function(reason)
    self._linked[other] = nil
    if self.trap_exits then
      self._inbox:put(Down(other, reason))
    elseif reason ~= nil then
      self._greenlet:kill(moonlet.GreenletExit(("%s has ended: %s"):format(other, reason)), 0)
    end
  end)
end

function Actor:_untie(other)
  local cancel = self._linked[other]
  self._linked[other] = nil
  if cancel then
    cancel()
  end
end

--- From now on the end of one, unless it returns, is the end of the other.
---@param other any an actor, here or elsewhere
function Actor:link(other)
  check_own(self, "link")
  self:_tie(other)
  other:_tie(self)
end

--- Takes that back, for both.
---@param other any
function Actor:unlink(other)
  check_own(self, "unlink")
  self:_untie(other)
  other:_untie(self)
end

--- A new actor that is linked to this one.
---@param body function
---@param ... any
---@return moonlet.actor.Actor
function Actor:spawn_link(body, ...)
  check_own(self, "spawn_link")
  local other = actor.spawn(body, ...)
  self:link(other)
  return other
end

-- ---- the module ----

--- A new actor: a greenlet that runs body(self, ...).
---@param body function
---@param ... any
---@return moonlet.actor.Actor
function actor.spawn(body, ...)
  if type(body) ~= "function" then
    error(("bad argument #1 to 'spawn' (function expected, got %s)"):format(type(body)), 2)
  end
  local self = Actor()
  self._greenlet = moonlet.spawn(body, self, ...)
  owners[self._greenlet] = self
  self._greenlet:rawlink(function(greenlet)
    self:_end(greenlet)
  end)
  return self
end

--- The actor that runs now.
---@return moonlet.actor.Actor|nil # nil in any other greenlet
function actor.self()
  return owners[moonlet.getcurrent()]
end

local names = {} -- name -> actor

--- Gives an actor a name, until it ends.
---@param name string
---@param which moonlet.actor.Actor
---@return true|nil
---@return string # "taken", or "dead"
function actor.register(name, which)
  if type(name) ~= "string" then
    error(("bad argument #1 to 'register' (string expected, got %s)"):format(type(name)), 2)
  elseif getmetatable(which) ~= Actor then
    error("bad argument #2 to 'register' (actor of this process expected)", 2)
  elseif which:dead() then
    return nil, "dead"
  elseif actor.whereis(name) then
    return nil, "taken"
  end
  names[name] = which
  which._name = name
  which:_watch(function()
    if names[name] == which then
      names[name] = nil
    end
  end)
  return true
end

--- Takes a name back.
---@param name string
function actor.unregister(name)
  names[name] = nil
end

--- The actor of that name.
---@param name string
---@return moonlet.actor.Actor|nil
function actor.whereis(name)
  local which = names[name]
  return which and not which:dead() and which or nil
end

actor.supervisor = require "moonlet.actor.supervisor"(actor)

-- What reaches other processes needs moonlet.zmq, which is loaded when it is asked for.
local function remote()
  return require "moonlet.actor.remote"(actor, Actor)
end

--- Lets other processes reach the actors of this one: those with a name, and those that messages
--- lead to.
---@param endpoint string "tcp://127.0.0.1:5555", "tcp://127.0.0.1:*", "ipc:///path"
---@param setup? function setup(socket) sets options of the socket of moonlet.zmq, such as CURVE's
---@return moonlet.actor.Listener|nil
---@return string # the reason
---@return integer # the errno
function actor.listen(endpoint, setup)
  return remote().listen(endpoint, setup)
end

--- Connects to a process that listens; does not wait for it.
--- If there is a connection to that endpoint, this returns it as it is.
---@param endpoint string
---@param setup? function setup(socket) sets options of the socket of moonlet.zmq, such as CURVE's
---@return moonlet.actor.Connection|nil
---@return string # the reason
---@return integer # the errno
function actor.connect(endpoint, setup)
  return remote().connect(endpoint, setup)
end

--- Closes all that listens and all connections, and waits until what was sent has gone.
---@param timeout? number|Timeout seconds
---@return true|nil
---@return string # "timeout"
function actor.shutdown(timeout)
  return not package.loaded["moonlet.actor.remote"] or remote().shutdown(timeout)
end

return actor
