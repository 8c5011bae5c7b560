local moonlet = require "moonlet"
local bench = require "bench"

local count, seconds = tonumber(arg[1]), tonumber(arg[2] or 3)
local sleep = moonlet.sleep

local parked, ended = 0, 0
local function body()
  parked = parked + 1
  sleep(seconds)
  ended = ended + 1
end

collectgarbage()
local empty, begun = bench.resident(), bench.cpu()
for _ = 1, count do
  moonlet.spawn(body)
end
while parked < count do
  sleep(0)
end
local created, full = bench.cpu(), bench.resident()
assert(ended == 0, "some woke before all were asleep")
moonlet.wait()
local woken = bench.cpu()
assert(ended == count)

bench.result("mem_each", (full - empty) / count, "bytes")
bench.result("create_each", (created - begun) / count * 1e9, "ns")
bench.result("wake_each", (woken - created) / count * 1e9, "ns")
