-- 5. Determinism
-- Ten greenlets of a pool finish in the same order whenever the same work is given to them: the
-- scheduler has no will of its own, and equal input gives equal order. Four runs are compared.

local moonlet = require "moonlet"
local Pool = require("moonlet.pool").Pool

local numbers = { 0, 1, 2, 3, 4, 5, 6, 7, 8, 9 }

local function echo(n)
  moonlet.sleep(0.001)
  return n
end

local function completion_order(pool)
  local order = {}
  for n in pool:imap_unordered(echo, numbers) do
    order[#order + 1] = n
  end
  return table.concat(order, " ")
end

local pool = Pool(10)
local run1 = completion_order(pool)
local run2 = completion_order(pool)
local run3 = completion_order(pool)
local run4 = completion_order(pool)

print(run1 == run2 and run2 == run3 and run3 == run4)
