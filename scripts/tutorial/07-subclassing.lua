-- 7. Subclassing Greenlet
-- A subclass keeps its own state and says in _run what its greenlets do. Its initialiser calls the
-- base class's; nothing runs before start.

local moonlet = require "moonlet"

local MyGreenlet = moonlet.Greenlet:extend()

function MyGreenlet:new(message, seconds)
  MyGreenlet.super.new(self)
  self.message = message
  self.seconds = seconds
end

function MyGreenlet:_run()
  print(self.message)
  moonlet.sleep(self.seconds)
end

local greenlet = MyGreenlet("Hi there!", 3)
greenlet:start()
greenlet:join()
