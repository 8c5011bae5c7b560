local moonlet = require "moonlet"
local Queue = require("moonlet.queue").Queue
local bench = require "bench"

local count, maxsize, timeout = tonumber(arg[1]), tonumber(arg[2]), tonumber(arg[3])
local queue = Queue(maxsize)
local put, get = queue.put, queue.get

local function produce()
  for i = 1, count do
    put(queue, i)
  end
end

local total
local function consume()
  local sum = 0
  for _ = 1, count do
    sum = sum + get(queue, timeout)
  end
  total = sum
end

local begun = bench.cpu()
moonlet.joinall { moonlet.spawn(produce), moonlet.spawn(consume) }
local used = bench.cpu() - begun
assert(total == count * (count + 1) // 2)
bench.result("item", used / count * 1e9, "ns")
