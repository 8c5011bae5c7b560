local moonlet = require "moonlet"
local bench = require "bench"

local mode, count, amount = arg[1], tonumber(arg[2]), tonumber(arg[3])
local sleep = moonlet.sleep

-- Runs f in a callback of string.gsub, where a coroutine could not yield.
local function inside(f)
  ("x"):gsub("x", f)
end

local function ring(yields)
  local function callback()
    for _ = 1, yields do
      sleep(0)
    end
  end
  local greenlets = {}
  local begun = bench.cpu()
  for i = 1, count do
    greenlets[i] = moonlet.spawn(inside, callback)
  end
  moonlet.joinall(greenlets)
  bench.result("switch", (bench.cpu() - begun) / (count * yields) * 1e9, "ns")
end

local function park(seconds)
  local parked, ended = 0, 0
  local function callback()
    parked = parked + 1
    sleep(seconds)
    ended = ended + 1
  end
  collectgarbage()
  local empty, tables = bench.resident(), bench.page_tables()
  for _ = 1, count do
    moonlet.spawn(inside, callback)
  end
  while parked < count do
    sleep(0)
  end
  local full, more_tables = bench.resident(), bench.page_tables()
  assert(ended == 0, "some woke before all were asleep")
  moonlet.wait()
  assert(ended == count)
  bench.result("mem_each", (full - empty) / count, "bytes")
  bench.result("tables_each", (more_tables - tables) / count, "bytes")
end

if mode == "ring" then
  ring(amount)
else
  park(amount)
end
