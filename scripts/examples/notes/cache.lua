-- What Redis remembers, by an unmodified lua-redis: moonlet.monkey has to have patched LuaSocket.

package.path = package.path .. ";/usr/share/lua/5.3/?.lua" -- where Debian has it

local queue = require "moonlet.queue"
local redis = require "redis"

local SIZE = 8 -- connections
local SECONDS = 60 -- that something is remembered

local Cache = {}
Cache.__index = Cache

--- A cache on the Redis at that host and port.
local function new(host, port)
  local free = queue.LifoQueue(SIZE) -- connections, or false for one that is not made yet
  for _ = 1, SIZE do
    free:put(false)
  end
  return setmetatable({ host = host, port = port, free = free }, Cache)
end

-- Gives a connection back, or, after an error, a place for another one.
local Lease = {
  __close = function(lease, err)
    if err and lease.client then
      lease.client.network.socket:close()
    end
    lease.free:put(not err and lease.client or false)
  end,
}

-- The result of a command, by a connection that nobody else uses meanwhile.
function Cache:_call(command, ...)
  local lease <close> = setmetatable({ free = self.free, client = self.free:get() }, Lease)
  lease.client = lease.client or redis.connect(self.host, self.port)
  return lease.client[command](lease.client, ...)
end

function Cache:get(key)
  return self:_call("get", key)
end

function Cache:set(key, value)
  self:_call("setex", key, SECONDS, value)
end

function Cache:forget(key)
  self:_call("del", key)
end

return { new = new }
