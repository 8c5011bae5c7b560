--- Lua functions in other threads, which compute at the same time.
--
-- Each thread has a Lua state of its own with the standard library, in which os.exit is an error;
-- `require` finds the same modules as here, and `require "moonlet"` gives the state a runtime of
-- its own. Globals and modules stay from task to task. Threads start when they are needed, and end
-- after some seconds without work.
--
-- Functions and values are copied. A function may use globals, which are those of the state where
-- it runs, itself, and local variables around it that hold data: it gets a copy of these, as they
-- are when the task is spawned, and what it assigns to them is not seen here. Other functions and
-- modules are defined or `require`d inside it. Data, arguments, results and errors may be nil,
-- booleans, numbers, strings, and tables of those without metatables; a table that occurs twice, or
-- within itself, does so in the copy too. Anything else is an error that tells where it was found.
-- An error that cannot be copied becomes the string that tostring makes of it. Its traceback is
-- that of the place where it was raised.
--
-- Work in a thread cannot be stopped from outside. When the program ends, threads at work end with
-- it, wherever they are; where Lua is embedded, they go on after lua_close until their task ends.
-- In the child of a fork the tasks are the parent's, and the pool has no threads yet.
-- Differs: what may be sent | all objects are shared | values are copied
-- Differs: adjust, init, ThreadPoolExecutor, ThreadResult | there | not there

local Workers = require "moonlet.workers"
local Crew = require "moonlet.threadpool.core"

--- A pool of threads.
-- Source: gevent.threadpool.ThreadPool.
---@class moonlet.threadpool.ThreadPool: moonlet.threadpool.Workers
---@overload fun(maxsize: integer, idle?: number): moonlet.threadpool.ThreadPool
local ThreadPool = Workers:extend("ThreadPool")

--- A pool of at most `maxsize` threads; none is started yet.
-- Differs: an idle thread stays unless idle_task_timeout is given | stays for five seconds
---@param maxsize integer
---@param idle? number seconds without work after which a thread ends; 5 if not given
function ThreadPool:new(maxsize, idle)
  ThreadPool.super.new(self, maxsize)
  if idle ~= nil and not (type(idle) == "number" and idle >= 0) then
    error("bad argument #2 to 'ThreadPool' (seconds expected)", 3)
  end
  self._crew = Crew(maxsize, idle or 5)
end

function ThreadPool:_begin(request)
  return self._crew:begin(request)
end

function ThreadPool:_finish(task)
  return task:finish()
end

-- Whether nothing of the task is left to be done.
function ThreadPool:_drop(task)
  return task:cancel()
end

function ThreadPool:_await(task)
  task:wait()
end

function ThreadPool:_size()
  return self._crew:count()
end

function ThreadPool:_limit(maxsize)
  self._crew:limit(maxsize)
end

function ThreadPool:_resize(size)
  self._crew:resize(size)
end

function ThreadPool:_close()
  self._crew:close()
end

function ThreadPool:_forked() end

return { ThreadPool = ThreadPool }
