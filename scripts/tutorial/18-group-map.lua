-- 18. Mapping a function over a group
-- A group also spreads work over greenlets and collects the results: map waits for all of them,
-- imap hands them out in the order of the input, imap_unordered in the order of completion.

local moonlet = require "moonlet"
local Group = require("moonlet.pool").Group

local numbers = { 0, 1, 2 }
local group = Group()

local function hello_from()
  print(("Size of group %d"):format(#group))
  print(("Hello from Greenlet %s"):format(moonlet.getcurrent().id))
end

group:map(hello_from, numbers)

local function intensive(n)
  moonlet.sleep(3 - n)
  return "task", n
end

print("Ordered")
for name, n in Group():imap(intensive, numbers) do
  print(("('%s', %d)"):format(name, n))
end

print("Unordered")
for name, n in Group():imap_unordered(intensive, numbers) do
  print(("('%s', %d)"):format(name, n))
end
