-- 14. AsyncResult
-- An event that carries a value, known elsewhere as a future: get waits until somebody sets it.

local moonlet = require "moonlet"
local AsyncResult = require("moonlet.event").AsyncResult

local greeting = AsyncResult()

local function setter()
  moonlet.sleep(0.3)
  greeting:set("Hello!")
end

local function waiter()
  print(greeting:get())
end

moonlet.joinall { moonlet.spawn(setter), moonlet.spawn(waiter) }
