-- Prefork: processes that serve the clients of one server, and the supervisor of them.
--
-- The parent binds and listens. For each worker it has a keeper, a greenlet that forks, waits for
-- the child's end and forks again. Parent and child hold the two ends of a socket: it takes the
-- orders of the parent, lines of text, and by its end each sees that the other is gone.

local Object = require "moonlet.class"
local moonlet = require "moonlet"
local os_module = require "moonlet.os"
local socket = require "moonlet.socket"

-- A worker that lived shorter is replaced after a pause, seconds; longer after each next one.
local STEADY, MIN_DELAY, MAX_DELAY = 1, 0.1, 10

-- What a worker gets, beyond the time that its handlers have, before it is killed.
local GRACE = 2

-- Of a worker that had to kill handlers.
local UNCLEAN = 2

-- ---- in a worker ----

-- Follows the parent's orders, methods of the server, until one is to stop: how long that may take.
local function obey(server, control)
  while true do
    local line = control:receive() or "stop" -- without a parent, too
    local order, seconds = line:match("^(%S+) ?(%S*)$")
    if order == "stop" then
      return tonumber(seconds)
    end
    server[order](server)
  end
end

-- A server that was closed, by an order or by itself, has no more to do after its handlers.
local function leave_when_closed(server, control)
  server._closed:wait()
  server:_join()
  control:close()
end

local function work(server, control, accepting)
  moonlet.signal("SIGTERM", control.close, control)
  moonlet.signal("SIGINT", function() end) -- of the terminal: the parent stops its workers
  math.randomseed()
  if accepting then
    server:start_accepting()
  end
  moonlet.spawn(leave_when_closed, server, control)
  return server:stop(obey(server, control))
end

-- ---- in the parent ----

local Supervisor = Object:extend("Supervisor")

function Supervisor:new(server, count)
  self.server = server
  self.count = count
  self.keepers = {}
  self.workers = {} -- number -> { pid =, control = }, those that live
  self.clean = true -- no handler had to be killed
end

function Supervisor:count_workers()
  local count = 0
  for _ in pairs(self.workers) do
    count = count + 1
  end
  return count
end

-- As an error that left a greenlet.
function Supervisor:report(message, ...)
  moonlet.spawn(error, ("%s: %s"):format(tostring(self.server), message:format(...)), 0)
end

-- What the child does, from the fork to its end.
function Supervisor:become_worker(number, control)
  local server = self.server
  for _, worker in pairs(self.workers) do
    worker.control:close()
  end
  server:_become_worker(number)
  local ok, result = xpcall(work, debug.traceback, server, control, not self.paused)
  if not ok then
    io.stderr:write(tostring(result), "\n")
  end
  os.exit(not ok and 1 or result and 0 or UNCLEAN)
end

function Supervisor:fork(number)
  local ours, theirs = socket.socketpair()
  if not ours then
    return nil, theirs
  end
  local keeping = moonlet.keep_at_fork(false)
  local pid, message = os_module.fork()
  moonlet.keep_at_fork(keeping)
  if pid == 0 then
    ours:close()
    self:become_worker(number, theirs)
  end
  theirs:close()
  if not pid then
    ours:close()
    return nil, message
  end
  return { pid = pid, control = ours }
end

-- Forks a worker and waits for its end.
function Supervisor:run(number)
  local worker, problem = self:fork(number)
  if not worker then
    return self:report("no worker can be made: %s", problem)
  end
  self.workers[number] = worker
  local _, how, code = os_module.waitpid(worker.pid)
  self.workers[number] = nil
  worker.control:close()
  if how == "exited" and code == 0 then
    return
  elseif self.ended then
    self.clean = false
  else
    self:report("worker %d, process %d, %s %d", number, worker.pid,
                how == "exited" and "ended with status" or "was killed by signal", code)
  end
end

local function keep(self, number)
  local delay = MIN_DELAY
  while not self.ended do
    local began = moonlet.now()
    self:run(number)
    if self.ended or moonlet.now() - began >= STEADY then
      delay = MIN_DELAY
    else
      moonlet.sleep(delay)
      delay = math.min(delay * 2, MAX_DELAY)
    end
  end
end

function Supervisor:tell(order)
  for _, worker in pairs(self.workers) do
    worker.control:send(order .. "\n")
  end
end

function Supervisor:start_accepting()
  if self.paused then
    self.paused = false
    self:tell("start_accepting")
  end
  for number = #self.keepers + 1, self.count do
    self.keepers[number] = moonlet.spawn(keep, self, number)
  end
  moonlet.sleep(0) -- they fork now: what this process opens later is not the workers'
end

function Supervisor:stop_accepting()
  if not self.paused then
    self.paused = true
    self:tell("stop_accepting")
  end
end

-- No worker is replaced from now on; those that live end after their handlers.
function Supervisor:close()
  self.ended = true
  self:tell("close")
  for number, keeper in ipairs(self.keepers) do
    if not self.workers[number] then
      moonlet.kill(keeper)
    end
  end
end

-- Waits for the workers' end, and kills them if need be: whether no handler was killed.
function Supervisor:join(timeout)
  local seconds = tonumber(timeout) or timeout.seconds
  self:tell(("stop %.6f"):format(seconds))
  local ended = moonlet.joinall(self.keepers, seconds + GRACE)
  if #ended < #self.keepers then
    for _, worker in pairs(self.workers) do
      os_module.kill(worker.pid, "SIGKILL")
    end
    moonlet.joinall(self.keepers)
  end
  return self.clean
end

return Supervisor
