local moonlet = require "moonlet"
local bench = require "bench"

local mode, count = arg[1], tonumber(arg[2])

-- Each sleeps for a random part of a second.
local function sleepers()
  local spawn, sleep, random = moonlet.spawn, moonlet.sleep, math.random
  math.randomseed(42)
  for _ = 1, count do
    spawn(sleep, random())
  end
  moonlet.wait()
end

local function cancel()
  local start_new, close = moonlet.Timeout.start_new, moonlet.Timeout.close
  for _ = 1, count do
    close(start_new(10))
  end
end

local begun = bench.cpu()
if mode == "sleepers" then
  sleepers()
  bench.result("sleeper", (bench.cpu() - begun) / count * 1e6, "us")
else
  cancel()
  bench.result("cancel", (bench.cpu() - begun) / count * 1e9, "ns")
end
