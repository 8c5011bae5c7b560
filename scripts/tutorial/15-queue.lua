-- 15. Queues
-- Three workers share the tasks of one queue. An item taken by one of them is seen by no other, and
-- the sleep(0) after each task makes them take turns.

local moonlet = require "moonlet"
local Queue = require("moonlet.queue").Queue

local tasks = Queue()

local function worker(name)
  while not tasks:empty() do
    local task = tasks:get()
    print(("Worker %s got task %d"):format(name, task))
    moonlet.sleep(0)
  end
  print("Quitting time!")
end

local function boss()
  for n = 1, 24 do
    tasks:put_nowait(n)
  end
end

moonlet.spawn(boss):join()

moonlet.joinall {
  moonlet.spawn(worker, "steve"),
  moonlet.spawn(worker, "john"),
  moonlet.spawn(worker, "nancy"),
}
