-- 21. Semaphores
-- A semaphore of two lets two greenlets in and keeps the others waiting, first come, first served.
-- acquire and release go by hand; a guard from hold releases by itself at the end of its block.

local moonlet = require "moonlet"
local BoundedSemaphore = require("moonlet.lock").BoundedSemaphore
local Pool = require("moonlet.pool").Pool

local semaphore = BoundedSemaphore(2)

local function worker1(n)
  semaphore:acquire()
  print(("Worker %d acquired semaphore"):format(n))
  moonlet.sleep(0)
  semaphore:release()
  print(("Worker %d released semaphore"):format(n))
end

local function worker2(n)
  do
    local _ <close> = semaphore:hold()
    print(("Worker %d acquired semaphore"):format(n))
    moonlet.sleep(0)
  end
  print(("Worker %d released semaphore"):format(n))
end

local pool = Pool()
pool:map(worker1, { 0, 1 })
pool:map(worker2, { 3, 4, 5 })
