local moonlet = require "moonlet"
local bench = require "bench"

local mode, count = arg[1], tonumber(arg[2])
local batch = mode == "all" and count or 100
local spawn, wait, joinall = moonlet.spawn, moonlet.wait, moonlet.joinall

local ended = 0
local function body()
  ended = ended + 1
end

local function spawn_and_wait()
  for _ = 1, batch do
    spawn(body)
  end
  wait()
end

-- The same with a handle for each.
local function spawn_and_join()
  local greenlets = {}
  for i = 1, batch do
    greenlets[i] = spawn(body)
  end
  joinall(greenlets)
end

local run = mode == "joined" and spawn_and_join or spawn_and_wait
local begun = bench.cpu()
for _ = 1, count, batch do
  run()
end
local used = bench.cpu() - begun
assert(ended == count)
bench.result("spawn", used / count * 1e9, "ns")
