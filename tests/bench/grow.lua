-- Measures how the cost of an operation grows with the number of greenlets, timers, items or
-- connections: growth.lua at each size, and floor.c where it does the same work. Writes medians to
-- BUILD/bench/growth.tsv.

local programs = require "tests.bench.programs"

local SIZES = { 10, 1000, 10000, 100000, 1000000 }
local FEW = { 10, 1000, 10000 } -- of what is bounded by mappings or descriptors
local ROUNDS, LARGE = 3, 1000000 -- once is enough for the large

-- Seconds in which so many are surely asleep.
local function park(size)
  return ("park %d %f"):format(size, 0.002 + size * 1e-5)
end

-- name: a measure of growth.lua; then metric, title, and what floor.c does at a size, which it does
-- not repeat if that is small.
local measures = {
  {
    name = "switch",
    { "switch", "switch", function(size)
      return ("ring %d %d"):format(size, math.max(4, 400000 // size))
    end },
  },
  {
    name = "spawn",
    { "spawn", "spawn and end", function(size)
      return ("spawn all %d"):format(size)
    end },
  },
  {
    name = "park",
    { "create_each", "create and park", park },
    { "wake_each", "wake and end", park },
  },
  {
    name = "memory",
    { "mem_each", "memory of a parked greenlet", park },
  },
  {
    name = "sleepers",
    { "sleeper", "sleep for up to a second", function(size)
      return ("sleepers %d"):format(size)
    end },
  },
  {
    name = "timeout",
    { "timeout", "Timeout, started and cancelled among sleepers" },
  },
  {
    name = "queue",
    { "item", "queue: put and get an item", function(size)
      return ("queue %d 0"):format(size)
    end },
  },
  {
    name = "priority",
    { "item", "priority queue: put and get an item" },
  },
  {
    name = "event",
    { "waiter", "event: wait and be woken" },
  },
  {
    name = "lock",
    { "handover", "lock, handed over among waiters" },
  },
  {
    name = "kill",
    { "kill", "kill a waiter of an event" },
  },
  {
    name = "pinned",
    sizes = FEW,
    { "switch", "switch where Lua cannot yield", function(size)
      return ("pinned ring %d %d"):format(size, 400000 // size)
    end },
    { "mem_each", "memory of a pinned greenlet" },
  },
  -- Each is a greenlet that takes what a coroutine of its own yields after a wait.
  {
    name = "stream",
    sizes = FEW,
    { "item", "generator that blocks: an item" },
    { "mem_each", "generator that blocks: memory" },
  },
  {
    name = "echo",
    sizes = FEW,
    descriptors = 1,
    { "request", "echo, all connections busy" },
    { "mem_each", "memory of a connection and its greenlet" },
  },
  {
    name = "idle",
    sizes = FEW,
    descriptors = 1,
    { "request", "echo, all connections but 10 idle" },
  },
}

-- What a program prints: value and unit by metric.
local function run(command)
  local results = {}
  for metric, value, unit in programs.output(command):gmatch("(%S+)\t(%S+)\t(%S+)\n") do
    local scale = unit == "us" and 1000 or 1
    results[metric] = { value = tonumber(value) * scale, unit = unit == "us" and "ns" or unit }
  end
  return results
end

-- Medians, the least and the most of a metric in several runs.
local function summary(runs, metric)
  local values = {}
  for i, results in ipairs(runs) do
    values[i] = results[metric].value
  end
  table.sort(values)
  return ("%.6g\t%.6g\t%.6g\t%s"):format(values[(#values + 1) // 2], values[1], values[#values],
    runs[1][metric].unit)
end

-- The results of all rounds at one size: ours, and those of each command of the floor.
local function sample(measure, size)
  local ours, floors = {}, {}
  for _ = 1, size < LARGE and ROUNDS or 1 do
    table.insert(ours, run(("%s tests/bench/growth.lua %s %d"):format(programs.moonlet,
      measure.name, size)))
    local done = {}
    for _, row in ipairs(measure) do
      local command = row[3] and size >= 1000 and row[3](size)
      if command and not done[command] then
        done[command] = true
        floors[command] = floors[command] or {}
        table.insert(floors[command], run(programs.floor(command)))
      end
    end
  end
  return ours, floors
end

local function grow(measure, size, file)
  local ours, floors = sample(measure, size)
  for _, row in ipairs(measure) do
    local metric, title, floor = table.unpack(row)
    if ours[1][metric] then
      file:write(("%s\t%d\tmoonlet\t%s\n"):format(title, size, summary(ours, metric)))
    end
    if floor and size >= 1000 then
      file:write(("%s\t%d\tfloor\t%s\n"):format(title, size, summary(floors[floor(size)], metric)))
    end
  end
end

local limit = tonumber(programs.output("ulimit -n")) or math.huge -- or "unlimited"
assert(os.execute(("mkdir -p '%s/bench'"):format(programs.build)))
local file <close> = assert(io.open(programs.build .. "/bench/growth.tsv", "w"))
file:write("title\tsize\tside\tmedian\tmin\tmax\tunit\n")
for _, measure in ipairs(measures) do
  for _, size in ipairs(measure.sizes or SIZES) do
    io.stderr:write(("%-10s%10d\n"):format(measure.name, size))
    if size * (measure.descriptors or 0) + 50 > limit then
      io.stderr:write("left out: more descriptors than ulimit -n allows\n")
    else
      grow(measure, size, file)
    end
  end
end
