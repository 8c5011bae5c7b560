--- Lua functions in other threads, which compute at the same time.
--
-- Each thread has a Lua state of its own with the standard library, in which os.exit is an error;
-- `require` finds the same modules as here, and `require "moonlet"` gives the state a runtime of
-- its own. Threads start when they are needed, and end after five seconds without work.
--
-- Work in a thread cannot be stopped from outside. When the program ends, threads at work end with
-- it, wherever they are; in an embedded Lua they go on after lua_close until their task ends.
-- In the child of a fork the tasks are gone with their threads, and the pool is a new one.
-- Differs: ThreadPool(maxsize, hub, idle_task_timeout) | any idle time | five seconds

local Workers = require("moonlet.workers").Workers
local Crew = require "moonlet.threadpool.core"

--- A pool of threads.
-- Source: gevent.threadpool.ThreadPool.
---@class moonlet.threadpool.ThreadPool: moonlet.workers.Workers
---@overload fun(maxsize: integer): moonlet.threadpool.ThreadPool
local ThreadPool = Workers:extend("ThreadPool")

--- A pool of at most `maxsize` threads; none is started yet.
---@param maxsize integer
function ThreadPool:new(maxsize)
  ThreadPool.super.new(self, maxsize)
  self._crew = Crew(maxsize)
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
