-- 16. A queue with a bound, and a get with a timeout
-- The queue holds three tasks at most, so that the boss must wait in put until a worker has taken
-- one. A worker that gets nothing for a second goes home.

local moonlet = require "moonlet"
local Queue = require("moonlet.queue").Queue

local tasks = Queue(3)

local function worker(name)
  local task = tasks:get(1)
  while task do
    print(("Worker %s got task %d"):format(name, task))
    moonlet.sleep(0)
    task = tasks:get(1)
  end
  print("Quitting time!")
end

local function assign(first, last, iteration)
  for n = first, last do
    print(("Assigned work %d in iteration %d"):format(n, iteration))
    tasks:put(n)
  end
  print(("Assigned all work in iteration %d"):format(iteration))
end

local function boss()
  assign(1, 9, 1)
  assign(10, 19, 2)
end

moonlet.joinall {
  moonlet.spawn(boss),
  moonlet.spawn(worker, "steve"),
  moonlet.spawn(worker, "john"),
  moonlet.spawn(worker, "bob"),
}
