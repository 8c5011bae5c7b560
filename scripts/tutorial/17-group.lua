-- 17. Groups
-- A group gathers greenlets, to wait for all of them at once. The third greenlet is added late, but
-- it was spawned with the others: it runs during the first join, and the second returns at once.

local moonlet = require "moonlet"
local Group = require("moonlet.pool").Group

local function talk(message)
  for _ = 1, 3 do
    print(message)
  end
end

local bar = moonlet.spawn(talk, "bar")
local foo = moonlet.spawn(talk, "foo")
local fizz = moonlet.spawn(talk, "fizz")

local group = Group()
group:add(bar)
group:add(foo)
group:join()

group:add(fizz)
group:join()
