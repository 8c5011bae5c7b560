-- What all processes know, in Redis (6.2 or later), by an unmodified lua-redis: moonlet.monkey has
-- to have patched LuaSocket.
--
--     chat:log           a stream, the last messages of all rooms; its ids are the messages'
--     chat:backlog:ROOM  a list, the last messages of a room
--     chat:people:ROOM   a sorted set, the names of who is there by when they came
--     chat:user:NAME     a hash, with the key, and the rooms joined; it expires
--     chat               the channel on which all that happens is published
--
-- A line is what is stored and published: "ID JSON", or "- JSON" for what is not kept.
--
-- What changes something is one script. Redis runs scripts one after the other, wholly or not at
-- all: everybody hears of the changes in the same order, and of no message that is not in the log.

package.path = package.path .. ";/usr/share/lua/5.3/?.lua" -- where Debian has it

local moonlet = require "moonlet"
local queue = require "moonlet.queue"
local redis = require "redis"

local SIZE = 8 -- connections of a process, beside the one that listens
local TIMEOUT = 5 -- seconds for an answer, and for one of the connections

-- ---- scripts, in the Lua of Redis ----

local COMMON = [=[
  local LOG, CHANNEL, LOGGED, BACKLOG = 'chat:log', 'chat', 10000, 25

  local function people(room) return 'chat:people:' .. room end

  local function publish(event) redis.call('PUBLISH', CHANNEL, '- ' .. cjson.encode(event)) end

  local function last_id()
    local last = redis.call('XREVRANGE', LOG, '+', '-', 'COUNT', 1)[1]
    return last and last[1] or '0-0'
  end

  -- The lines after an id, of those rooms or of all.
  local function lines_after(id, rooms)
    local lines = {}
    for _, entry in ipairs(redis.call('XRANGE', LOG, '(' .. id, '+')) do
      local fields = entry[2] -- room, its name, message, JSON
      if not rooms or rooms[fields[2]] then
        lines[#lines + 1] = entry[1] .. ' ' .. fields[4]
      end
    end
    return lines
  end

  -- The hash of a user who is still here for so long; nil and a reason if the name is not theirs.
  local function find(name, key, seconds)
    local user = 'chat:user:' .. name
    local known = redis.call('HGET', user, 'key')
    if not known then
      return nil, 'unknown user'
    elseif known ~= key then
      return nil, 'name taken'
    end
    redis.call('EXPIRE', user, seconds)
    return user
  end

  local function rooms_of(user)
    local rooms = {}
    for _, field in ipairs(redis.call('HKEYS', user)) do
      local room = field:match('^room:(.*)$')
      if room then
        rooms[room] = true
        rooms[#rooms + 1] = room
      end
    end
    return rooms
  end
]=]

local SCRIPTS = {
  -- The last lines of the room, who is there, and the id up to which this tells all.
  join = [=[
    local room, name, key, seconds = unpack(ARGV)
    local user, problem = find(name, key, seconds)
    if problem == 'name taken' then return problem end
    user = 'chat:user:' .. name
    redis.call('HSET', user, 'key', key, 'room:' .. room, 1)
    redis.call('HSETNX', user, 'since', last_id())
    redis.call('EXPIRE', user, seconds)
    local now = redis.call('TIME')
    now = string.format('%.0f', now[1] * 1000000 + now[2])
    if redis.call('ZADD', people(room), 'NX', now, name) == 1 then
      publish({ type = 'join', room = room, name = name })
    end
    return { redis.call('LRANGE', 'chat:backlog:' .. room, 0, -1),
             redis.call('ZRANGE', people(room), 0, -1), last_id() }
  ]=],

  post = [=[
    local room, name, key, seconds, message = unpack(ARGV)
    local user, problem = find(name, key, seconds)
    if not user then return problem end
    local id = redis.call('XADD', LOG, 'MAXLEN', '~', LOGGED, '*', 'room', room, 'message', message)
    local line, backlog = id .. ' ' .. message, 'chat:backlog:' .. room
    redis.call('RPUSH', backlog, line)
    redis.call('LTRIM', backlog, -BACKLOG, -1)
    redis.call('PUBLISH', CHANNEL, line)
    return { id }
  ]=],

  -- The rooms of a user, the lines of them since an id (by default since the user came), and the
  -- id up to which this tells all.
  follow = [=[
    local name, key, seconds, after = unpack(ARGV)
    local user, problem = find(name, key, seconds)
    if not user then return problem end
    local rooms = rooms_of(user)
    if after == '' then after = redis.call('HGET', user, 'since') end
    return { rooms, lines_after(after, rooms), last_id() }
  ]=],

  leave = [=[
    local name, key = unpack(ARGV)
    local user, problem = find(name, key, 1)
    if not user then return problem end
    for _, room in ipairs(rooms_of(user)) do
      redis.call('ZREM', people(room), name)
      publish({ type = 'leave', room = room, name = name })
    end
    redis.call('DEL', user)
    return {}
  ]=],

  -- All lines since an id (none since '', which is now), and the newest id.
  news = [=[
    return { ARGV[1] == '' and {} or lines_after(ARGV[1]), last_id() }
  ]=],

  -- So many are in each room.
  count = [=[
    local counts = {}
    for i, room in ipairs(ARGV) do counts[i] = redis.call('ZCARD', people(room)) end
    return counts
  ]=],

  -- Keeps users, lets go of those whom nobody keeps, and says that Redis is there. The first
  -- arguments are seconds and a number of rooms, which follow, then the users; those that are
  -- not known any more are the result.
  sweep = [=[
    local seconds, last_room = ARGV[1], 2 + ARGV[2]
    local gone = {}
    for i = last_room + 1, #ARGV do
      if redis.call('EXPIRE', 'chat:user:' .. ARGV[i], seconds) == 0 then
        gone[#gone + 1] = ARGV[i]
      end
    end
    for i = 3, last_room do
      for _, name in ipairs(redis.call('ZRANGE', people(ARGV[i]), 0, -1)) do
        if redis.call('EXISTS', 'chat:user:' .. name) == 0 then
          redis.call('ZREM', people(ARGV[i]), name)
          publish({ type = 'leave', room = ARGV[i], name = name })
        end
      end
    end
    publish({ type = 'tick' })
    return gone
  ]=],
}

-- ---- connections ----

local Store = {}
Store.__index = Store

--- What is in the Redis at that host and port. A process that is forked needs one of its own.
local function new(host, port)
  local free = queue.LifoQueue(SIZE) -- connections, or false for one that is not made yet
  for _ = 1, SIZE do
    free:put(false)
  end
  return setmetatable({ host = host, port = port, free = free }, Store)
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

function Store:_eval(name, ...)
  local lease <close> = setmetatable({ free = self.free, client = self.free:get() }, Lease)
  lease.client = lease.client or redis.connect(self.host, self.port)
  return lease.client:eval(COMMON .. SCRIPTS[name], 0, ...)
end

--- Runs a script: its result, or nil and a reason, "unavailable" if Redis cannot tell.
function Store:call(name, ...)
  local ok, result = moonlet.try(moonlet.with_timeout, TIMEOUT, self._eval, self, name, ...)
  if not ok or result == nil then
    return nil, "unavailable"
  elseif type(result) == "string" then
    return nil, result
  end
  return result
end

local Connection = {
  __close = function(connection)
    connection.client.network.socket:close()
  end,
}

--- Calls ready() once everything that is published from then on will be heard, then hear(line)
--- for each line of it. It ends by an error: of Redis, or if there is nothing for so many seconds.
function Store:listen(seconds, ready, hear)
  local client = redis.connect(self.host, self.port, seconds)
  local _ <close> = setmetatable({ client = client }, Connection)
  for message in client:pubsub { subscribe = "chat" } do
    if message.kind == "subscribe" then
      ready()
    else
      hear(message.payload)
    end
  end
end

return { new = new }
