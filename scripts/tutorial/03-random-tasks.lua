-- 3. Tasks of random length, one by one and all at once
-- Each task waits for 0, 1 or 2 ms. Called one after another they finish in order, and their waits
-- add up; in greenlets of their own the shortest finishes first, and all of them together take
-- about as long as the longest.

local moonlet = require "moonlet"

local function task(n)
  moonlet.sleep(math.random(0, 2) * 0.001)
  print(("Task %d done"):format(n))
end

local function synchronous()
  for n = 0, 9 do
    task(n)
  end
end

local function asynchronous()
  local greenlets = {}
  for n = 0, 9 do
    greenlets[#greenlets + 1] = moonlet.spawn(task, n)
  end
  moonlet.joinall(greenlets)
end

print("Synchronous:")
synchronous()

print("Asynchronous:")
asynchronous()
