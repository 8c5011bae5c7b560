--- Lua functions in other processes, which compute at the same time and fail by themselves.
--
-- A worker is a new process of the interpreter that runs this program, started when it is needed,
-- without the environment variables of Lua and with standard input from /dev/null; standard output
-- and error are the program's own. `require` finds the same modules as here. Where the program is
-- neither the command moonlet nor a lua (a host with Lua embedded), a worker is a fork of it
-- instead: a copy of the Lua state as it is, with all descriptors open.
--
-- A worker that ends, by whatever cause, gives the caller whose task it had an error, such as
-- "worker 4711 was killed by signal 9 (Killed)", and is replaced. A worker is ended by a kill of
-- the greenlet that waits for its task, and with the program, whatever it does.
-- What may be sent is said of moonlet.threadpool.
-- In the child of a fork the workers are the parent's, and the pool has none.
-- Differs: pools of processes | not in gevent, but in Python's multiprocessing.pool | there

local Workers = require "moonlet.workers"
local core = require "moonlet.processpool.core"
local event = require "moonlet.event"
local getpid = require("moonlet.workers.core").getpid
local moonlet = require "moonlet"

--- A pool of processes.
---@class moonlet.processpool.Pool: moonlet.threadpool.Workers
---@overload fun(maxsize: integer): moonlet.processpool.Pool
local Pool = Workers:extend("Pool")

--- A pool of at most `maxsize` processes; none is started yet.
---@param maxsize integer
function Pool:new(maxsize)
  Pool.super.new(self, maxsize)
  self:_forked()
end

function Pool:_forked()
  self._idle = {} -- workers, used last at the end
  self._busy = {} -- those at work, as keys
  self._queue = {} -- tasks without a worker
end

-- ---- workers ----

-- The program that is a worker and the code it runs; nothing where this is no interpreter.
local function command()
  local program = core.program()
  local name = program:match("[^/]*$")
  if not (name:match("^lua[%d.-]*$") or name:match("^moonlet")) then
    return
  end
  local code = "package.path, package.cpath = %q, %q require 'moonlet' " ..
               "require('moonlet.processpool.core').serve(%d)"
  return program, code:format(package.path, package.cpath, getpid())
end

function Pool:_size()
  local count = #self._idle
  for _ in pairs(self._busy) do
    count = count + 1
  end
  return count
end

-- An idle worker, or a new one, or nil if all are busy.
function Pool:_find()
  while #self._idle > 0 do
    local worker = table.remove(self._idle)
    if not worker:ended() then
      return worker
    end
    worker:close()
  end
  return self:_size() < self._maxsize and core.start(command()) or nil
end

function Pool:_give(worker, task)
  self._busy[worker] = true
  task.worker = worker
  worker:send(task.request)
end

-- Gives tasks of the queue to workers that are free. Where none can be started, the first task has
-- the error.
function Pool:_advance()
  while self._queue[1] do
    local ok, worker = pcall(self._find, self)
    if ok and not worker then
      return
    end
    local task = table.remove(self._queue, 1)
    if ok then
      self:_give(worker, task)
    else
      task.failure = worker
    end
    task.given:set()
  end
end

-- A worker has done its task.
function Pool:_put_back(worker)
  self._busy[worker] = nil
  if self:_size() < self._maxsize then
    table.insert(self._idle, worker)
  else
    worker:close()
  end
end

function Pool:_lose(worker)
  self._busy[worker] = nil
  worker:close()
end

function Pool:_limit(maxsize)
  self:_shrink(maxsize)
  self:_advance()
end

function Pool:_shrink(size)
  while self._idle[1] and self:_size() > size do
    table.remove(self._idle, 1):close()
  end
end

function Pool:_resize(size)
  self:_shrink(size)
  while self:_size() < size do
    table.insert(self._idle, core.start(command()))
  end
end

function Pool:_close()
  self:_shrink(0)
end

-- ---- tasks ----

function Pool:_begin(request)
  local task = { request = request, given = event.Event() }
  local worker = not self._queue[1] and self:_find()
  if worker then
    self:_give(worker, task)
    task.given:set()
  else
    table.insert(self._queue, task)
  end
  return task
end

-- The answer; or nil and what became of the worker.
local function exchange(worker)
  local answer = worker:exchange()
  if answer then
    return answer
  end
  worker:kill() -- which is nothing to one that is about to end
  worker:wait()
  return nil, ("worker %d %s"):format(worker.pid, worker:fate())
end

function Pool:_finish(task)
  task.given:wait()
  if task.failure then
    error(task.failure, 0)
  end
  local worker = task.worker
  local answer, fate = exchange(worker)
  task.worker = nil
  if answer then
    self:_put_back(worker)
  else
    self:_lose(worker)
  end
  self:_advance()
  if not answer then
    error(fate, 0)
  end
  return core.deliver(answer)
end

-- Nobody waits for the task any more: it leaves the queue, or ends with its worker. Another one
-- is not started here, in the hub's own turn.
function Pool:_drop(task)
  if task.worker then
    task.worker:kill()
    self:_lose(task.worker)
    if self._queue[1] then
      pcall(moonlet.spawn, self._advance, self)
    end
  end
  for i, queued in ipairs(self._queue) do
    if queued == task then
      table.remove(self._queue, i)
      break
    end
  end
  return true
end

return { Pool = Pool }
