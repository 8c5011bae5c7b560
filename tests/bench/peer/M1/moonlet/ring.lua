local moonlet = require "moonlet"
local bench = require "bench"

local count, yields = tonumber(arg[1]), tonumber(arg[2])
local sleep = moonlet.sleep

local function body()
  for _ = 1, yields do
    sleep(0)
  end
end

local greenlets = {}
local begun = bench.cpu()
for i = 1, count do
  greenlets[i] = moonlet.spawn(body)
end
moonlet.joinall(greenlets)
bench.result("switch", (bench.cpu() - begun) / (count * yields) * 1e9, "ns")
