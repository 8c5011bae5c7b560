-- The connections of an HTTP client: those in use, as leases, and those kept for the next request.

local Connection = require "moonlet.http.connection"
local Contexts = require "moonlet.http.contexts"
local Event = require("moonlet.event").Event
local Http2 = require "moonlet.http.http2"
local Stream = require "moonlet.http.stream"
local deadline = require "moonlet.http.deadline"
local dial = require "moonlet.http.dial"
local getpid = require("moonlet.workers.core").getpid
local lock = require "moonlet.lock"
local moonlet = require "moonlet"
local url = require "moonlet.http.url"

local now = moonlet.now

-- ---- leases ----

-- What carries one request: the use of a connection of HTTP/1, or a stream of HTTP/2. It ends when
-- the answer was read, or is not wanted any more; as a `<close>` variable it ends with the block
-- unless it is kept.
local Lease = {}
Lease.__index = Lease

-- Leaves it to whoever will end it.
function Lease:keep()
  self.kept = true
end

-- The answer was read: the carrier may be used for another request, if it is fit for that.
function Lease:finish()
  self.kept = false
  local lease <close> = self
  local carrier = self.carrier
  if carrier and carrier:is_reusable(self.request) and lease.carrier then
    self.carrier = nil
    self.pool:put(self.key, carrier, self.generation)
  end
end

-- The carrier is not wanted any more. A second call does nothing.
function Lease:close()
  local carrier, slot = self.carrier, self.slot
  self.carrier, self.slot = nil, nil
  if carrier then
    carrier:close()
  end
  if slot then
    slot:close()
  end
end

function Lease:__close()
  if not self.kept then
    self:close()
  end
end

-- ---- the pool ----

local Pool = {}
Pool.__index = Pool

local MAX_IDLE = 100 -- connections kept in all
local MAX_KNOWN = 1000 -- servers of which is known that they have no HTTP/2
local EXPIRE_TIME = 1 -- seconds; so often old ones are looked for

-- A pool that keeps `max_idle` connections to one server, for `idle_time` seconds, and opens no
-- more than `limit`, if that is said; `http2`: connections of HTTP/2 where servers have it.
function Pool.new(max_idle, idle_time, limit, http2)
  return setmetatable({
    process = getpid(),
    max_idle = max_idle,
    idle_time = idle_time,
    limit = limit,
    http2 = http2 and Http2.is_there(),
    shared = {}, -- key -> connection of HTTP/2
    probes = {}, -- key -> Event, while the first connection is made that may be one of HTTP/2
    known = {}, -- key -> true, where the server has no HTTP/2
    known_count = 0,
    count = 0, -- of idle ones
    idle = {}, -- key -> list of { connection =, since = }, the one used last is the last
    slots = setmetatable({}, { __mode = "v" }), -- key -> Semaphore, while somebody uses it
    contexts = Contexts.new(),
    generation = 0, -- connections in use at close() are not kept
    expired = 0, -- when old ones were looked for
  }, Pool)
end

local function remove(self, key, place)
  local list = self.idle[key]
  local entry = table.remove(list, place)
  self.count = self.count - 1
  if #list == 0 then
    self.idle[key] = nil
  end
  return entry.connection, entry.since
end

-- A connection that still stands, the one used last first.
local function take(self, key)
  while self.idle[key] do
    local connection, since = remove(self, key)
    if since + self.idle_time > now() and connection:is_idle() then
      return connection
    end
    connection:close()
  end
end

-- Servers nobody asks any more lose their connections.
local function expire(self)
  local limit = now() - self.idle_time
  for key, list in pairs(self.idle) do
    while list[1] and list[1].since < limit do
      remove(self, key, 1):close()
    end
  end
  for key, connection in pairs(self.shared) do
    local since = connection:idle_since()
    if connection.closed or since and since < limit then
      self.shared[key] = nil
      connection:close()
    end
  end
  self.expired = now()
end

local function close_oldest(self)
  local oldest
  for key, list in pairs(self.idle) do
    if not oldest or list[1].since < self.idle[oldest][1].since then
      oldest = key
    end
  end
  remove(self, oldest, 1):close()
end

-- Keeps a connection for the next request.
function Pool:put(key, connection, generation)
  if generation ~= self.generation or self.max_idle == 0 then
    return connection:close()
  end
  local list = self.idle[key] or {}
  self.idle[key] = list
  table.insert(list, { connection = connection, since = now() })
  self.count = self.count + 1
  if #list > self.max_idle then
    remove(self, key, 1):close()
  elseif self.count > MAX_IDLE then
    close_oldest(self)
  end
end

-- How many connections carry nothing.
function Pool:count_idle()
  local count = self.count
  for _, connection in pairs(self.shared) do
    count = count + (connection:idle_since() and not connection.closed and 1 or 0)
  end
  return count
end

-- Closes what is idle, and lets nothing that is in use be kept.
function Pool:close()
  local idle, shared = self.idle, self.shared
  self.idle, self.count, self.shared = {}, 0, {}
  self.contexts = Contexts.new()
  self.generation = self.generation + 1
  for _, connection in pairs(shared) do
    connection:retire()
  end
  for _, list in pairs(idle) do
    for _, entry in ipairs(list) do
      entry.connection:close()
    end
  end
end

-- After a fork the connections are the parent's: they are dropped without a word to the servers.
local function forget_parent(self)
  self.process = getpid()
  self.idle, self.count, self.shared, self.probes = {}, 0, {}, {}
  self.slots = setmetatable({}, { __mode = "v" })
  self.generation = self.generation + 1
end

-- ---- HTTP/2 ----

-- A stream on the server's connection of HTTP/2, if there is one; nil if not.
local function open_stream(self, key)
  local connection = self.shared[key]
  if not connection then
    return nil
  end
  local since = connection:idle_since()
  if since and since + self.idle_time < now() or not connection:is_usable() then
    self.shared[key] = nil
    connection:retire()
    return nil
  end
  return Stream.new(connection)
end

-- The server's connection of HTTP/2 from now on; one that was before ends with its requests.
local function share(self, key, connection, generation)
  local before = self.shared[key]
  if before then
    before:retire()
  end
  local stream = Stream.new(connection)
  if generation == self.generation then
    self.shared[key] = connection
  else
    connection.leaving = true
  end
  return stream
end

local function know(self, key)
  if self.known_count >= MAX_KNOWN then
    self.known, self.known_count = {}, 0
  end
  self.known[key], self.known_count = true, self.known_count + 1
end

-- Ends a probe: those who wait for it go on.
local Probe = {
  __close = function(probe)
    probe.pool.probes[probe.key] = nil
    probe.event:set()
  end,
}

-- ---- leasing ----

-- Requests may use the same connections if this is the same. A proxy passes on plain requests to
-- whichever server.
local function key_of(request, proxy, print)
  local way = proxy and url.endpoint(proxy) or request.unix or ""
  if proxy and request.parts.scheme == "http" then
    return "by " .. way
  end
  return table.concat({ url.origin(request.parts), way, proxy and proxy.authorization or "",
                        print or "" }, " ")
end

-- Waits until there may be one more connection: a guard; nil if that takes too long.
local function hold_slot(self, key, due)
  local slots = self.slots[key] or lock.Semaphore(self.limit)
  self.slots[key] = slots
  return slots:hold(deadline.rest(due))
end

-- Makes a connection: what carries a request by it; or nil, why, and errno or the like.
local function connect(self, lease, proxy, context, due)
  local stream, message, number = dial(lease.request, proxy, context, due)
  if not stream then
    return nil, message, number
  elseif context and stream:getalpn() == "h2" then
    return share(self, lease.key, Http2.new(stream), lease.generation)
  end
  return Connection.new(stream)
end

-- The same where the server may have HTTP/2: one connection is made first, and the others wait
-- whether it will do for all.
local function probe(self, lease, proxy, context, due)
  local key = lease.key
  while self.probes[key] do
    local other = self.probes[key]
    if not other.event:wait(deadline.rest(due)) then
      return nil, "timeout"
    end
    local stream = open_stream(self, key)
    if stream then
      return stream
    elseif other.failure and other.failure[1] ~= "timeout" then
      return nil, table.unpack(other.failure)
    elseif self.known[key] then
      return connect(self, lease, proxy, context, due)
    end
  end
  local mine <close> = setmetatable({ pool = self, key = key, event = Event() }, Probe)
  self.probes[key] = mine
  local carrier, message, number = connect(self, lease, proxy, context, due)
  if not carrier then
    mine.failure = { message, number }
  elseif getmetatable(carrier) == Connection then
    know(self, key)
  end
  return carrier, message, number
end

-- By a connection that is kept, unless it shall be a fresh one, or one that is made.
local function find_carrier(self, lease, proxy, context, fresh, due)
  local kept = not fresh and (open_stream(self, lease.key) or take(self, lease.key))
  if kept then
    return kept
  elseif lease.offers and not self.known[lease.key] then
    return probe(self, lease, proxy, context, due)
  end
  return connect(self, lease, proxy, context, due)
end

-- The context of TLS for a request, and the fingerprint of its parameters.
local function find_context(self, request, offers)
  if request.parts.scheme ~= "https" then
    return nil, nil
  elseif self.contexts:is_full() then
    self:close()
  end
  return self.contexts:find(request.ssl, offers)
end

-- What carries a request, by a kept connection unless it shall be a fresh one: a lease; or nil,
-- why, and errno or the resolver's number.
function Pool:lease(request, proxy, fresh, due)
  if self.process ~= getpid() then
    forget_parent(self)
  end
  if now() - self.expired > EXPIRE_TIME then
    expire(self)
  end
  local offers = self.http2 and not request.upgrades
  local context, print = find_context(self, request, offers)
  if not context and print then
    return nil, print
  end
  local key = key_of(request, proxy, print)
  local lease <close> = setmetatable({
    pool = self, key = key, request = request, generation = self.generation,
    offers = context and offers,
  }, Lease)
  lease.carrier = not fresh and open_stream(self, key) or nil
  if not lease.carrier then
    lease.slot = self.limit and hold_slot(self, key, due)
    if self.limit and not lease.slot then
      return nil, "timeout"
    end
    local message, number
    lease.carrier, message, number = find_carrier(self, lease, proxy, context, fresh, due)
    if not lease.carrier then
      return nil, message, number
    elseif lease.slot and getmetatable(lease.carrier) == Stream then
      lease.slot:close()
    end
  end
  lease:keep()
  return lease
end

return Pool
