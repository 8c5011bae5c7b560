-- 5. Determinism
-- Ten greenlets of a pool finish in the same order whenever the same work is given to them: the
-- scheduler has no will of its own, and equal input gives equal order. Ten processes finish as it
-- happens. Four runs of each are compared.

local greenlets = require("moonlet.pool").Pool(10)
local processes = require("moonlet.processpool").Pool(10)

local numbers = { 0, 1, 2, 3, 4, 5, 6, 7, 8, 9 }

-- Also runs in another process, and so requires what it needs by itself.
local function echo(n)
  require("moonlet").sleep(0.001)
  return n
end

local function completion_order(pool)
  local order = {}
  for n in pool:imap_unordered(echo, numbers) do
    order[#order + 1] = n
  end
  return table.concat(order, " ")
end

local function is_deterministic(pool)
  local run1 = completion_order(pool)
  local run2 = completion_order(pool)
  local run3 = completion_order(pool)
  local run4 = completion_order(pool)
  return run1 == run2 and run2 == run3 and run3 == run4
end

print("Processes:", is_deterministic(processes))
print("Greenlets:", is_deterministic(greenlets))
