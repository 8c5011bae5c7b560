local moonlet = require "moonlet"
local bench = require "bench"

local module, workers = require("moonlet." .. arg[1]), tonumber(arg[2])
local pool = (module.ThreadPool or module.Pool)(workers)

local COUNT = 16

local function compute(n)
  local sum = 0
  for i = 1, n do
    sum = sum + i % 7 * 0.5
  end
  return sum
end

local function nothing(item)
  return item
end

-- Seconds on a clock on the wall, for a map of f over `count` times `item`.
local function time(f, item, count)
  local list = {}
  for i = 1, count do
    list[i] = item
  end
  local begun = moonlet.now()
  pool:map(f, list)
  return moonlet.now() - begun
end

time(nothing, 0, 2 * workers) -- starts the workers
bench.result("map", time(compute, 3000000, COUNT) * 1e3, "ms")
bench.result("task", time(nothing, 0, 2000) / 2000 * 1e6, "us")
