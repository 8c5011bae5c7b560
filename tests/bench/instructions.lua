-- Counts the instructions of an operation with callgrind: figures that repeat on any machine.
-- Each program runs with a few and with more operations; the difference leaves out its start.
-- The profiles of the longer runs stay in BUILD/callgrind, for callgrind_annotate.

local programs = require "tests.bench.programs"

local folder = programs.build .. "/callgrind"

-- `per` operations are done for each of the count that replaces %d.
local measures = {
  { "switch", "M1/moonlet/ring.lua 2 %d", "ring 2 %d", few = 5000, per = 2 },
  { "pinned", "pinned/moonlet/pinned.lua ring 2 %d", "pinned ring 2 %d", few = 5000, per = 2 },
  { "spawn", "M2/moonlet/spawn.lua batch %d", "spawn batch %d", few = 10000, per = 1 },
  { "joined", "M2/moonlet/spawn.lua joined %d", "spawn batch %d", few = 10000, per = 1 },
  { "queue item", "M4/moonlet/queue.lua %d 100", "queue %d 100", few = 10000, per = 1 },
  { "timed get", "M4/moonlet/queue.lua %d 1 10", "queue %d 1 10", few = 10000, per = 1 },
  { "Timeout", "M5/moonlet/timers.lua cancel %d", "cancel %d", few = 10000, per = 1 },
}

local function count(command, name)
  local profile = ("%s/%s"):format(folder, name:gsub(" ", "-"))
  programs.output(("valgrind --tool=callgrind --quiet --callgrind-out-file=%s %s"):format(
    profile, command))
  local file <close> = assert(io.open(profile))
  return tonumber(file:read("a"):match("\nsummary: (%d+)") or error("no summary in " .. profile))
end

-- Instructions for one operation.
local function cost(measure, command, name)
  local few = count(command:format(measure.few), name)
  local more = count(command:format(measure.few * 3), name)
  return (more - few) / (measure.few * 2 * measure.per)
end

assert(os.execute("mkdir -p " .. folder))
print(("%-20s%10s%10s%8s"):format("instructions", "moonlet", "floor", "ratio"))
for _, measure in ipairs(measures) do
  local title, script, floor = table.unpack(measure)
  local ours = cost(measure, programs.moonlet .. " tests/bench/peer/" .. script, title)
  local least = cost(measure, programs.floor(floor), title .. " floor")
  print(("%-20s%10.0f%10.0f%8.2f"):format(title, ours, least, ours / least))
end
