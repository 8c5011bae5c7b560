-- 13. Events
-- Any number of greenlets wait for an event; setting it wakes all of them, in the order in which
-- they came.

local moonlet = require "moonlet"
local Event = require("moonlet.event").Event

local done = Event()

local function setter()
  print("A: Hey wait for me, I have to do something")
  moonlet.sleep(0.3)
  print("Ok, I'm done")
  done:set()
end

local function waiter()
  print("I'll wait for you")
  done:wait()
  print("It's about time")
end

local greenlets = { moonlet.spawn(setter) }
for _ = 1, 5 do
  greenlets[#greenlets + 1] = moonlet.spawn(waiter)
end
moonlet.joinall(greenlets)
