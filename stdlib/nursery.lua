-- Structured concurrency: a block that ends when all its greenlets have ended.

local event = require "moonlet.event"
local moonlet = require "moonlet"

-- What interrupts the body when a greenlet of the nursery has failed.
local cancelled = setmetatable({}, { __tostring = function()
  return "cancelled: a greenlet of the nursery has failed"
end })

local function is_timeout(value)
  return type(value) == "userdata" and value.is and value:is(moonlet.Timeout)
end

-- Whether a coroutine has yielded, and may never be resumed. A blocked one has not.
local function has_yielded(thread)
  local top = debug.getinfo(thread, 0, "f")
  return top ~= nil and top.func == coroutine.yield
end

return function(Group, bad_argument, is_callable)
  --- The group of a nursery's greenlets; once it has ended it takes no more.
  ---@class moonlet.pool.Nursery: moonlet.pool.Group
  local Nursery = Group:extend("Nursery")

  function Nursery:new()
    Nursery.super.new(self)
    self._failed = {}
    self._settled = event.Event() -- no greenlet is left, or one has failed
    self._settled:set()
  end

  function Nursery:_join(greenlet)
    if self._closed then
      moonlet.kill(greenlet)
      error("the nursery has ended: it takes no more greenlets", 3)
    end
    self._settled:clear()
    Nursery.super._join(self, greenlet)
  end

  -- The first failure cancels the body if that runs, wherever it blocks.
  function Nursery:_leave(greenlet)
    Nursery.super._leave(self, greenlet)
    if greenlet:ready() and not greenlet:successful() then
      self._failed[#self._failed + 1] = greenlet
      if #self._failed == 1 and not has_yielded(self._thread) then
        self._cancel:fire()
      end
    end
    if #self._failed > 0 or #self == 0 then
      self._settled:set()
    end
  end

  -- The error to raise: the first one, which takes the others along if it is a table.
  function Nursery:_failure()
    local first = self._failed[1]
    if type(first.exception) == "table" and #self._failed > 1 then
      local others = {}
      for i = 2, #self._failed do
        others[#others + 1] = self._failed[i].exception
      end
      first.exception.others = others
    end
    first:get()
  end

  -- Calls the body under a Timeout that a failure makes due, and that its end takes back.
  local function run(self, body)
    local cancel <close> = moonlet.Timeout.start_new(nil, cancelled)
    self._cancel, self._thread = cancel, coroutine.running()
    return moonlet.try(body, self)
  end

  local function supervise(self, body)
    local scope <close> = setmetatable({}, { __close = function()
      self:kill()
      self._closed = true
    end })
    local results = table.pack(run(self, body))
    if #self._failed == 0 and not results[1] then
      error(results[2], 0)
    end
    while #self._failed == 0 and #self > 0 do
      self._settled:wait()
    end
    if #self._failed > 0 then
      self:kill()
      self:_failure()
    end
    return scope, table.unpack(results, 2, results.n)
  end

  --- pool.nursery(body [, timeout]): runs body(nursery), in which nursery:spawn(f, ...) starts
  -- greenlets; returns when all have ended. The first error, of the body or a greenlet, cancels
  -- the rest and is raised; if it is a table, errors that came after it are in its field `others`.
  ---@param body fun(nursery: moonlet.pool.Nursery):...
  ---@param timeout? number|moonlet.Timeout seconds for it all; then the rest is cancelled
  ---@return any ... # body's results, or nil, "timeout"
  ---@raise the first error; a Timeout given as timeout
  return function(body, timeout)
    if not is_callable(body) then
      bad_argument(1, "nursery", "function", body)
    elseif timeout ~= nil and type(timeout) ~= "number" and not is_timeout(timeout) then
      bad_argument(2, "nursery", "number", timeout)
    end
    local self = Nursery()
    local function finish(first, ...)
      if first == nil then
        return nil, "timeout"
      end
      return ...
    end
    local seconds = type(timeout) == "number" and timeout or nil
    return finish(moonlet.with_timeout(seconds, supervise, self, body))
  end
end
