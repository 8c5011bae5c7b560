-- 10. Timeouts
-- A started Timeout is raised in the greenlet that started it, at the place where it waits. By
-- default it raises itself, so that one's own is told from others; it can raise an error of your
-- choice instead. As a <close> variable it bounds a block and is cancelled at the block's end.

local moonlet = require "moonlet"
local Timeout = moonlet.Timeout

local function wait()
  moonlet.sleep(0.5)
end

local timeout = Timeout(0.1):start()
local ok, err = pcall(function()
  moonlet.spawn(wait):join()
end)
if not ok and err == timeout then
  print("Could not complete")
end

local too_long = setmetatable({}, { __tostring = function() return "too long" end })

ok, err = pcall(function()
  local _ <close> = Timeout.start_new(0.1, too_long)
  moonlet.sleep(0.5)
end)
assert(not ok and err == too_long)
