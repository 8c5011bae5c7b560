-- Structured concurrency: a block that ends when all its greenlets have ended.

local event = require "moonlet.event"
local moonlet = require "moonlet"

-- What interrupts the body when a greenlet of the nursery has failed.
local cancelled = setmetatable({}, { __tostring = function()
  return "cancelled: a greenlet of the nursery has failed"
end })

return function(Group)
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

  -- The first failure cancels the body, wherever it blocks.
  function Nursery:_leave(greenlet)
    Nursery.super._leave(self, greenlet)
    if greenlet.exception ~= nil then
      self._failed[#self._failed + 1] = greenlet
      if #self._failed == 1 and self._body then
        self._cancelling = true
        moonlet.kill(self._body, cancelled)
      end
    end
    if #self._failed > 0 or #self == 0 then
      self._settled:set()
    end
  end

  -- The kill that _leave has sent is due within a turn; nothing else may catch it.
  function Nursery:_absorb_cancellation()
    local ok, err = pcall(moonlet.sleep, 0)
    if not ok and err ~= cancelled then
      error(err, 0)
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

  local function run(self, body)
    self._body = moonlet.getcurrent()
    local results = table.pack(moonlet.try(body, self))
    self._body = nil
    if self._cancelling and results[2] ~= cancelled then
      self:_absorb_cancellation()
    end
    if #self._failed > 0 then
      return {}
    elseif not results[1] then
      error(results[2], 0)
    end
    return results
  end

  local function supervise(self, body)
    local scope <close> = setmetatable({}, { __close = function()
      self._body = nil
      self:kill()
      self._closed = true
    end })
    local results = run(self, body)
    repeat
      self._settled:wait()
    until #self._failed > 0 or #self == 0
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
  ---@raise the first error
  return function(body, timeout)
    if type(body) ~= "function" then
      error(("bad argument #1 to 'nursery' (function expected, got %s)"):format(
              body == nil and "no value" or type(body)), 2)
    end
    local self = Nursery()
    local function finish(first, ...)
      if first == nil then
        return nil, "timeout"
      end
      return ...
    end
    if type(timeout) ~= "number" then
      return select(2, supervise(self, body))
    end
    return finish(moonlet.with_timeout(timeout, supervise, self, body))
  end
end
