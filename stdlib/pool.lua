--- Groups and pools of greenlets.
--
-- A Group keeps count of greenlets that belong together; a Pool is a Group with a limit, whose
-- spawn blocks while it is full. Both map functions over lists.
-- Differs: PoolFull | an error | nil, queue.Full is returned
-- Differs: apply(f, args, kwds), imap(f, list1, list2) | keyword arguments; several lists | one
--   list of arguments; one list
-- Differs: killone(g), `g in group`, iteration over a group | there | g:kill(), contains(g),
--   greenlets()
-- Differs: nursery | not in gevent | there

local Object = require "moonlet.class"
local event = require "moonlet.event"
local lock = require "moonlet.lock"
local moonlet = require "moonlet"
local queue = require "moonlet.queue"

local getcurrent, kill = moonlet.getcurrent, moonlet.kill

-- The error is one of the caller's caller, unless the level says otherwise.
local function bad_argument(number, name, expected, value, level)
  local text = "bad argument #%d to '%s' (%s expected, got %s)"
  local got = value == nil and "no value" or type(value)
  error(text:format(number, name, expected, got), level or 3)
end

local function is_greenlet(value)
  return type(value) == "userdata" and value.is and value:is(moonlet.Greenlet)
end

local function is_callable(value)
  local meta = getmetatable(value)
  return type(value) == "function" or type(meta) == "table" and meta.__call ~= nil
end

-- The level of who calls a class: its constructor is called from within.
local CONSTRUCTION = 4

-- ---- Group ----

--- Greenlets that belong together; `#group` is their number. As a `<close>` variable it is joined
-- at the end of the block, or killed if an error ends the block.
-- Source: gevent.pool.Group.
---@class moonlet.pool.Group: moonlet.class.Object
---@overload fun(greenlets?: moonlet.Greenlet[]): moonlet.pool.Group
local Group = Object:extend("Group")

--- A group of greenlets, at first those given.
---@param greenlets? moonlet.Greenlet[]
function Group:new(greenlets)
  self._numbers, self._next, self._count = {}, 1, 0
  self._empty = event.Event()
  self._empty:set()
  self._dying = setmetatable({}, { __mode = "k" })
  self._feeders = setmetatable({}, { __mode = "k" })
  self._forget = function(greenlet)
    self:_leave(greenlet)
  end
  if greenlets ~= nil and type(greenlets) ~= "table" then
    bad_argument(1, "Group", "table", greenlets, CONSTRUCTION)
  end
  for _, greenlet in ipairs(greenlets or {}) do
    if not is_greenlet(greenlet) then
      bad_argument(1, "Group", "list of Greenlets", greenlet, CONSTRUCTION)
    end
    self:add(greenlet)
  end
end

-- A Pool waits for a free slot here, and gives it back.
function Group:_acquire()
  return true
end

function Group:_release() end

function Group:_join(greenlet)
  self._numbers[greenlet] = self._next
  self._next = self._next + 1
  self._count = self._count + 1
  self._empty:clear()
  greenlet:rawlink(self._forget)
end

function Group:_leave(greenlet)
  if not self._numbers[greenlet] then
    return
  end
  self._numbers[greenlet] = nil
  self._count = self._count - 1
  self:_release()
  if self._count == 0 then
    self._empty:set()
  end
end

--- Makes a greenlet a member until it ends. A full Pool blocks.
-- Differs: a full Pool raises PoolFull at the timeout | returns nil, queue.Full
---@param greenlet moonlet.Greenlet
---@param timeout? number|moonlet.Timeout seconds, for a Pool
---@return boolean? # true, or nil at the timeout
---@return userdata? reason # queue.Full
function Group:add(greenlet, timeout)
  if not is_greenlet(greenlet) then
    bad_argument(1, "add", "Greenlet", greenlet)
  end
  if self._numbers[greenlet] then
    return true
  end
  if not self:_acquire(timeout) then
    return nil, queue.Full
  end
  self:_join(greenlet)
  return true
end

--- Ends the membership of a greenlet, which runs on.
---@param greenlet moonlet.Greenlet
function Group:discard(greenlet)
  if self._numbers[greenlet] then
    greenlet:unlink(self._forget)
    self:_leave(greenlet)
  end
end

--- Adds a greenlet and starts it.
---@param greenlet moonlet.Greenlet
---@param timeout? number|moonlet.Timeout seconds, for a Pool
---@return boolean? # true, or nil at the timeout
---@return userdata? reason # queue.Full
function Group:start(greenlet, timeout)
  if not is_greenlet(greenlet) then
    bad_argument(1, "start", "Greenlet", greenlet)
  end
  local added, full = self:add(greenlet, timeout)
  if added then
    greenlet:start()
  end
  return added, full
end

--- Starts f(...) in a new greenlet of the group. A full Pool blocks.
---@param f function
---@return moonlet.Greenlet
function Group:spawn(f, ...)
  if not is_callable(f) then
    bad_argument(1, "spawn", "function", f)
  end
  self:_acquire()
  local greenlet = moonlet.spawn(f, ...)
  self:_join(greenlet)
  return greenlet
end

-- The members in the order in which they joined.
function Group:_list()
  local list = {}
  for greenlet in pairs(self._numbers) do
    list[#list + 1] = greenlet
  end
  local numbers = self._numbers
  table.sort(list, function(a, b)
    return numbers[a] < numbers[b]
  end)
  return list
end

--- Iterates over the members of this moment, in the order in which they joined.
---@return fun():moonlet.Greenlet?
function Group:greenlets()
  local list, i = self:_list(), 0
  return function()
    i = i + 1
    return list[i]
  end
end

--- Whether a greenlet is a member.
---@param greenlet moonlet.Greenlet
---@return boolean
function Group:contains(greenlet)
  return self._numbers[greenlet] ~= nil
end

--- Waits until the group is empty.
---@param timeout? number|moonlet.Timeout seconds
---@param raise_error? boolean raise the error of the first member that failed
---@return boolean # whether it is empty; false at the timeout
---@raise the error of the first member that failed, if asked to
function Group:join(timeout, raise_error)
  local list = raise_error and self:_list() or {}
  local empty = self._empty:wait(timeout)
  for _, greenlet in ipairs(list) do
    if greenlet:ready() and not greenlet:successful() then
      greenlet:get()
    end
  end
  return empty
end

--- Raises err (a GreenletExit) in all members, once in each, and waits until they are dead.
-- Members that join meanwhile are killed too; what imap and map still had to start is dropped.
-- Differs: returns nothing | returns whether all are dead
---@param err? any
---@param timeout? number|moonlet.Timeout seconds
---@return boolean # whether all are dead; false at the timeout
function Group:kill(err, timeout)
  local deadline = tonumber(timeout) and moonlet.now() + timeout
  for feeder in pairs(self._feeders) do
    kill(feeder)
  end
  while self._count > 0 do
    local members = self:_list()
    for _, greenlet in ipairs(members) do
      if not self._dying[greenlet] then
        self._dying[greenlet] = true
        kill(greenlet, err)
      end
    end
    local ended = moonlet.joinall(members, deadline and deadline - moonlet.now() or timeout)
    if #ended < #members then
      return false
    end
    moonlet.sleep(0) -- members leave in a later turn than they end
  end
  return true
end

function Group:__len()
  return self._count
end

function Group:__close(err)
  if err ~= nil then
    self:kill()
  else
    self:join()
  end
end

--- Waits until all its greenlets have ended, as the end of a block does for a `<close>` variable.
-- A second call finds nothing to wait for.
function Group:close()
  self:__close()
end

function Group:__tostring()
  return ("<Group: %d greenlets>"):format(self._count)
end

-- ---- Pool ----

--- A group of no more than `size` greenlets.
-- Source: gevent.pool.Pool.
---@class moonlet.pool.Pool: moonlet.pool.Group
---@field size? integer nil: no limit
---@overload fun(size?: integer): moonlet.pool.Pool
local Pool = Group:extend("Pool")

--- A group of at most `size` greenlets; without a size, of any number.
---@param size? integer
function Pool:new(size)
  if size ~= nil and math.type(size) ~= "integer" then
    bad_argument(1, "Pool", "integer", size, CONSTRUCTION)
  elseif size and size < 0 then
    error("bad argument #1 to 'Pool' (size must not be negative)", CONSTRUCTION - 1)
  end
  Pool.super.new(self)
  self.size = size
  self._slots = size and lock.Semaphore(size)
end

function Pool:_acquire(timeout)
  return not self._slots or self._slots:acquire(timeout)
end

function Pool:_release()
  if self._slots then
    self._slots:release()
  end
end

--- How many greenlets may still be added without blocking.
-- Differs: gives 1 for a Pool without a size | gives math.huge
---@return number # math.huge without a size
function Pool:free_count()
  return self._slots and self._slots.counter or math.huge
end

--- Whether spawn would block.
---@return boolean
function Pool:full()
  return self:free_count() <= 0
end

--- Waits until a greenlet could be added.
---@param timeout? number|moonlet.Timeout seconds
---@return number|false # the free count, or false at the timeout
function Pool:wait_available(timeout)
  if self._slots and not self._slots:wait(timeout) then
    return false
  end
  return self:free_count()
end

function Pool:__tostring()
  return ("<Pool: %d of %s greenlets>"):format(self._count, self.size or "any number of")
end

-- ---- apply ----

local function unpack_args(args)
  return table.unpack(args or {}, 1, args and args.n or nil)
end

--- f(table.unpack(args)) in a greenlet of the group; called by a member, in place.
---@param f function
---@param args? table
---@return any ... # f's results
---@raise what f raises
function Group:apply(f, args)
  if not is_callable(f) then
    bad_argument(1, "apply", "function", f)
  elseif args ~= nil and type(args) ~= "table" then
    bad_argument(2, "apply", "table", args)
  end
  if self._numbers[getcurrent()] then
    return f(unpack_args(args))
  end
  return self:spawn(f, unpack_args(args)):get()
end

--- The same without waiting for the result.
---@param f function
---@param args? table
---@param callback? function called with the results, unless f fails
---@return moonlet.Greenlet
function Group:apply_async(f, args, callback)
  if not is_callable(f) then
    bad_argument(1, "apply_async", "function", f)
  elseif args ~= nil and type(args) ~= "table" then
    bad_argument(2, "apply_async", "table", args)
  elseif callback ~= nil and not is_callable(callback) then
    bad_argument(3, "apply_async", "function", callback)
  end
  local greenlet
  if self.full and self:full() then
    greenlet = moonlet.spawn(function(...)
      return self:apply(f, table.pack(...))
    end, unpack_args(args))
  else
    greenlet = self:spawn(f, unpack_args(args))
  end
  if callback then
    greenlet:link_value(function(ended)
      callback(ended:get())
    end)
  end
  return greenlet
end

require "moonlet.group_map"(Group, bad_argument, is_callable)
local nursery = require "moonlet.nursery"(Group, bad_argument, is_callable)

return { Group = Group, Pool = Pool, nursery = nursery }
