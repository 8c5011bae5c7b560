-- Measures the runtime and its floor in turn, several rounds in one run, and compares medians.
-- Times are of CPU, but for pools of threads and processes, which have another width of their own
-- as their floor, and for messages, which have two threads of a program in C. Prints a table and
-- writes BUILD/bench.tsv, with the least and the most.

local programs = require "tests.bench.programs"

local ROUNDS = 5

-- peer: a folder of peer/ and its arguments; floor: those of floor.c, messages: of messages.c, or
-- against: of another peer; then metric = title.
local measures = {
  {
    peer = "M1 2 400000",
    floor = "ring 2 400000",
    { "switch", "switch, ring of 2" },
  },
  {
    peer = "M1 1000 800",
    floor = "ring 1000 800",
    { "switch", "switch, ring of 1,000" },
  },
  {
    peer = "pinned ring 2 400000",
    floor = "pinned ring 2 400000",
    { "switch", "switch where Lua cannot yield" },
  },
  {
    peer = "M2 all 100000",
    floor = "spawn all 100000",
    { "spawn", "spawn and end, 100,000 at once" },
  },
  {
    peer = "M2 batch 200000",
    floor = "spawn batch 200000",
    { "spawn", "spawn and end, 100 at a time" },
  },
  {
    peer = "M2 batch 200000",
    floor = "spawn batch 200000 reuse",
    { "spawn", "  against reused coroutines" },
  },
  {
    peer = "M2 joined 200000",
    floor = "spawn batch 200000",
    { "spawn", "  joined as a list" },
  },
  {
    peer = "M3 100000 1",
    floor = "park 100000 1",
    { "mem_each", "memory of a parked greenlet" },
    { "create_each", "create and park it" },
    { "wake_each", "wake and end it" },
  },
  {
    peer = "pinned park 10000 0.5",
    floor = "pinned park 10000",
    { "mem_each", "memory of a pinned greenlet" },
    { "tables_each", "  page tables besides" },
  },
  {
    peer = "M4 200000 0",
    floor = "queue 200000 0",
    { "item", "queue item, unbounded" },
  },
  {
    peer = "M4 200000 100",
    floor = "queue 200000 100",
    { "item", "queue item, 100 at most" },
  },
  {
    peer = "M4 200000 1",
    floor = "queue 200000 1",
    { "item", "queue item, 1 at most" },
  },
  {
    peer = "M4 200000 1 10",
    floor = "queue 200000 1 10",
    { "item", "  and each get with a timeout" },
  },
  {
    peer = "M5 sleepers 100000",
    floor = "sleepers 100000",
    { "sleeper", "sleep, 100,000 at once" },
  },
  {
    peer = "M5 cancel 300000",
    floor = "cancel 300000",
    { "cancel", "Timeout, started and cancelled" },
  },
  {
    peer = "workers threadpool 2",
    against = "workers threadpool 1",
    { "map", "map over 2 threads, against 1" },
    { "task", "  a task that does nothing" },
  },
  {
    peer = "workers processpool 2",
    against = "workers processpool 1",
    { "map", "map over 2 processes, against 1" },
    { "task", "  a task that does nothing" },
  },
  {
    peer = "zmq reqrep 20000",
    messages = "reqrep 20000",
    { "message", "ZeroMQ: request and reply" },
  },
  {
    peer = "zmq pushpull 500000",
    messages = "pushpull 500000",
    { "message", "  a message from PUSH to PULL" },
  },
  {
    peer = "M9 15",
    floor = "start 15 FLOOR empty",
    { "start_cpu", "start of the interpreter" },
    { "peak_rss", "  its memory" },
  },
}

-- Runs a program and adds what it prints to samples[side][metric].
local function sample(measure, side, command)
  local samples = measure.samples[side]
  local lines = programs.output(command):gmatch("([^\t\n]+)\t([^\t\n]+)\t([^\t\n]+)\n")
  for metric, value, unit in lines do
    samples[metric] = samples[metric] or {}
    table.insert(samples[metric], tonumber(value))
    measure.units[metric] = unit
  end
end

local function floor_command(measure)
  return measure.against and programs.peer(measure.against)
    or measure.messages and programs.messages(measure.messages)
    or programs.floor(measure.floor)
end

local function run_rounds()
  for _, measure in ipairs(measures) do
    measure.samples, measure.units = { peer = {}, floor = {} }, {}
  end
  for round = 1, ROUNDS do
    io.stderr:write(("round %d of %d\n"):format(round, ROUNDS))
    for _, measure in ipairs(measures) do
      sample(measure, "peer", programs.peer(measure.peer))
      sample(measure, "floor", floor_command(measure))
    end
  end
end

-- The median of a list, which it sorts.
local function median(list)
  table.sort(list)
  return list[(#list + 1) // 2]
end

local function write_table(file)
  file:write("measure\tmoonlet\tfloor\tratio\tunit\tmin\tmax\tfloor_min\tfloor_max\n")
  print(("%-33s%10s%10s%8s"):format("measure", "moonlet", "floor", "ratio"))
  for _, measure in ipairs(measures) do
    for _, row in ipairs(measure) do
      local metric, title = row[1], row[2]
      local ours, least = measure.samples.peer[metric], measure.samples.floor[metric]
      local value, floor, unit = median(ours), median(least), measure.units[metric]
      print(("%-33s%10.4g%10.4g%8.2f %s"):format(title, value, floor, value / floor, unit))
      file:write(("%s\t%.6g\t%.6g\t%.3f\t%s\t%.6g\t%.6g\t%.6g\t%.6g\n"):format(title, value, floor,
        value / floor, unit, ours[1], ours[#ours], least[1], least[#least]))
    end
  end
end

run_rounds()
local file <close> = assert(io.open(programs.build .. "/bench.tsv", "w"))
write_table(file)
