-- 22. Greenlet locals
-- One table for all to see, but each greenlet finds only the fields it has set itself.

local moonlet = require "moonlet"
local stash = require "moonlet.local"()

local function f1()
  stash.x = 1
  print(stash.x)
end

local function f2()
  stash.y = 2
  print(stash.y)
  if stash.x == nil then
    print("x is not local to f2")
  end
end

moonlet.joinall { moonlet.spawn(f1), moonlet.spawn(f2) }
