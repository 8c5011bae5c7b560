-- What pools of threads and of processes have in common: a pool whose greenlets wait for tasks.
--
-- A class below Workers has
--   _begin(request) -> task     begins it or has it wait for its turn; does not block
--   _finish(task)               blocks; the task's results, or raises its error
--   _drop(task) -> boolean      nobody waits any more; whether nothing of it is left to be done
--   _await(task)                blocks until a task that is left has ended
--   _size(), _resize(n)         workers there are, or are to be
--   _limit(maxsize)             workers there may be
--   _close()                    idle workers end
--   _forked()                   in the child of a fork: there is no worker any more

local Group = require("moonlet.pool").Group
local core = require "moonlet.workers.core"
local lock = require "moonlet.lock"
local moonlet = require "moonlet"

local CONSTRUCTION = 4 -- the level of who calls a class below this one, seen from its `new`

-- ---- Workers ----

--- A pool whose workers run functions elsewhere. `#pool` is the number of tasks that have not
-- ended. As a `<close>` variable it is joined at the end of the block, or killed if an error ends
-- the block; its workers end with it, and others are started if it is used again.
-- Source: gevent.threadpool.ThreadPool.
---@class moonlet.threadpool.Workers: moonlet.pool.Group
---@field maxsize integer how many workers there may be; settable
---@field size integer how many there are; settable, up to maxsize
local Workers = Group:extend("Workers")

local function check_size(name, value, most, level)
  if math.type(value) ~= "integer" then
    error(("%s (integer expected, got %s)"):format(name, type(value)), level + 1)
  elseif value < 0 then
    error(name .. " (must not be negative)", level + 1)
  elseif value > most then
    error(("%s (must not be over %d)"):format(name, most), level + 1)
  end
end

local MOST = 10000

function Workers:new(maxsize)
  local name = ("bad argument #1 to '%s'"):format(getmetatable(self).__name)
  check_size(name, maxsize, MOST, CONSTRUCTION)
  self._maxsize = maxsize
  self._carried = setmetatable({}, { __mode = "k" })
  self:_start_afresh()
end

function Workers:_start_afresh()
  Workers.super.new(self)
  self._process = core.getpid()
  self._tasks = {} -- by the greenlets that wait for them
  self._slots = lock.Semaphore(self._maxsize + 1)
  self._debt = 0 -- slots that are not to come back
end

-- In the child of a fork the tasks are the parent's.
function Workers:_check_process()
  if self._process ~= core.getpid() then
    self:_start_afresh()
    self:_forked()
  end
end

function Workers:_acquire(timeout)
  return self._slots:acquire(timeout)
end

function Workers:_release()
  if self._debt > 0 then
    self._debt = self._debt - 1
  else
    self._slots:release()
  end
end

-- A request for f(...). Errors are those of who called the method, unless the level says otherwise.
function Workers:_pack(level, f, ...)
  local code = self._carried[f]
  if not code then
    local why
    code, why = core.carry(f)
    if not code then
      error(("bad argument #1 to 'spawn' (%s)"):format(why), level + 1)
    end
    self._carried[f] = code
  end
  local request, reason = core.pack(code, f, ...)
  if not request then
    error(reason, level + 1)
  end
  return request
end

function Workers:_submit(level, f, ...)
  if type(f) ~= "function" then
    local got = f == nil and "no value" or type(f)
    error(("bad argument #1 to 'spawn' (function expected, got %s)"):format(got), level + 1)
  end
  local request = self:_pack(level + 1, f, ...)
  self:_check_process()
  self:_acquire()
  local ok, task = pcall(self._begin, self, request)
  if not ok then
    self:_release()
    error(task, level + 1)
  end
  local greenlet = moonlet.spawn(self._finish, self, task)
  self._tasks[greenlet] = task
  self:_join(greenlet)
  return greenlet
end

--- Has a worker run f(...). If as many tasks as maxsize and one more have not ended, it blocks.
-- A kill of the greenlet gives the task up: if it has not begun, it never will.
-- Differs: returns an AsyncResult | returns a Greenlet
---@param f function
---@return moonlet.Greenlet # which ends with f's results or its error
function Workers:spawn(f, ...)
  local greenlet = self:_submit(2, f, ...)
  return greenlet
end

--- f(table.unpack(args)) in a worker.
---@param f function
---@param args? table
---@return any ... # f's results
---@raise what f raises
function Workers:apply(f, args)
  if args ~= nil and type(args) ~= "table" then
    error(("bad argument #2 to 'apply' (table expected, got %s)"):format(type(args)), 2)
  end
  args = args or {}
  local greenlet = self:_submit(2, f, table.unpack(args, 1, args.n or #args))
  return greenlet:get()
end

-- A greenlet that has given up a task stays a member until the work has ended, and so does its
-- slot. (At the program's end no greenlet can be started, and nobody counts any more.)
function Workers:_leave(greenlet)
  local task = self._tasks[greenlet]
  if task and not greenlet:dead() then
    greenlet:rawlink(self._forget)
  elseif not task or self:_drop(task) then
    self._tasks[greenlet] = nil
    Workers.super._leave(self, greenlet)
  else
    pcall(moonlet.spawn, function()
      self:_await(task)
      self:_leave(greenlet)
    end)
  end
end

-- Those who still wait, in the order in which they were spawned.
function Workers:_waiting()
  local list = {}
  for _, greenlet in ipairs(self:_list()) do
    if not greenlet:dead() then
      list[#list + 1] = greenlet
    end
  end
  return list
end

--- Raises err (a GreenletExit) in all greenlets that wait for tasks; no task that has not begun
-- will begin. Waits for the greenlets, not for tasks that a thread is at work on: these cannot be
-- stopped, and `#pool` counts them until they end. The pool can be used again.
---@param err? any
---@param timeout? number|moonlet.Timeout seconds
---@return boolean # whether all are dead; false at the timeout
---@return integer? running # how many tasks cannot be stopped
function Workers:kill(err, timeout)
  self:_check_process()
  for feeder in pairs(self._feeders) do
    moonlet.kill(feeder)
  end
  local deadline = tonumber(timeout) and moonlet.now() + timeout
  local waiting = self:_waiting()
  while #waiting > 0 do
    for _, greenlet in ipairs(waiting) do
      moonlet.kill(greenlet, err)
    end
    local ended = moonlet.joinall(waiting, deadline and deadline - moonlet.now() or timeout)
    if #ended < #waiting then
      return false
    end
    moonlet.sleep(0) -- they leave in a later turn than they end
    waiting = self:_waiting()
  end
  return true, self._count
end

--- Waits until all tasks have ended, also those whose greenlets were killed.
---@param timeout? number|moonlet.Timeout seconds
---@param raise_error? boolean raise the error of the first task that failed
---@return boolean # whether they have; false at the timeout
---@raise the error of the first task that failed, if asked to
function Workers:join(timeout, raise_error)
  self:_check_process()
  return Workers.super.join(self, timeout, raise_error)
end

--- How many tasks may still be spawned without blocking.
---@return integer
function Workers:free_count()
  return self._slots.counter
end

--- Whether spawn would block.
---@return boolean
function Workers:full()
  return self._slots.counter <= 0
end

--- Waits until a task could be spawned.
---@param timeout? number|moonlet.Timeout seconds
---@return integer|false # the free count, or false at the timeout
function Workers:wait_available(timeout)
  return self._slots:wait(timeout) and self:free_count()
end

function Workers:__close(err)
  Workers.super.__close(self, err)
  self:_close()
end

function Workers:__tostring()
  local text = "<%s: %d of %d workers, %d tasks>"
  return text:format(getmetatable(self).__name, self.size, self._maxsize, self._count)
end

-- ---- maxsize and size ----

local get, set = {}, {}

function get:maxsize()
  return self._maxsize
end

function get:size()
  return self:_size()
end

-- Blocked callers of spawn go on, or those to come block sooner.
function set:maxsize(value)
  check_size("bad value for 'maxsize'", value, MOST, 3)
  local more = value - self._maxsize
  self._maxsize = value
  for _ = 1, more do
    self:_release()
  end
  for _ = 1, -more do
    if not self._slots:acquire(0) then
      self._debt = self._debt + 1
    end
  end
  self:_limit(value)
end

function set:size(value)
  check_size("bad value for 'size'", value, self._maxsize, 3)
  self:_resize(value)
end

-- Classes below this one compute these fields.
function Workers.__extend(class)
  function class.__index(self, name)
    local getter = get[name]
    if getter then
      return getter(self)
    end
    return class[name]
  end

  function class.__newindex(self, name, value)
    local setter = set[name]
    if setter then
      setter(self, value)
    else
      rawset(self, name, value)
    end
  end
end

return Workers
