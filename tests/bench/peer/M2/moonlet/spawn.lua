local moonlet = require "moonlet"
local bench = require "bench"

local mode, count = arg[1], tonumber(arg[2])
local batch = mode == "all" and count or 100
local spawn, joinall = moonlet.spawn, moonlet.joinall

local ended = 0
local function body()
  ended = ended + 1
end

local begun = bench.cpu()
for _ = 1, count, batch do
  local greenlets = {}
  for i = 1, batch do
    greenlets[i] = spawn(body)
  end
  joinall(greenlets)
end
local used = bench.cpu() - begun
assert(ended == count)
bench.result("spawn", used / count * 1e9, "ns")
