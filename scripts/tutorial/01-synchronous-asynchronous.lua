-- 1. Synchronous and asynchronous execution
-- Two greenlets take turns. sleep(0) gives way to whatever else is ready: each of them prints its
-- first half, lets the other one run, and goes on where it left off. Main waits for both.

local moonlet = require "moonlet"

local function foo()
  print("Running in foo")
  moonlet.sleep(0)
  print("Explicit context switch to foo again")
end

local function bar()
  print("Explicit context to bar")
  moonlet.sleep(0)
  print("Implicit context switch back to bar")
end

moonlet.joinall { moonlet.spawn(foo), moonlet.spawn(bar) }
