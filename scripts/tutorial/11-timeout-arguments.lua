-- 11. Timeouts for single calls
-- Three ways to bound one wait: a Timeout that is running anyway, the same given to the call that
-- waits, and with_timeout, which reports the end of its time in its results and raises nothing.

local moonlet = require "moonlet"
local Timeout = moonlet.Timeout

local function wait()
  moonlet.sleep(2)
end

local timer1 = Timeout(1):start()
local greenlet1 = moonlet.spawn(wait)
local ok, err = pcall(greenlet1.join, greenlet1)
if not ok and err == timer1 then
  print("Thread 1 timed out")
end

local timer2 = Timeout.start_new(1)
local greenlet2 = moonlet.spawn(wait)
ok, err = pcall(greenlet2.get, greenlet2, timer2)
if not ok and err == timer2 then
  print("Thread 2 timed out")
end

local _, reason = moonlet.with_timeout(1, wait)
if reason == "timeout" then
  print("Thread 3 timed out")
end
