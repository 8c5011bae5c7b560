-- The connections of an HTTP client: those in use, as leases, and those kept for the next request.

local Connection = require "moonlet.http.connection"
local deadline = require "moonlet.http.deadline"
local dial = require "moonlet.http.dial"
local lock = require "moonlet.lock"
local moonlet = require "moonlet"
local url = require "moonlet.http.url"

local now = moonlet.now

-- ---- leases ----

-- The use of a connection by one request. It ends when the answer was read, or is not wanted any
-- more; as a `<close>` variable it ends with the block unless it is kept.
local Lease = {}
Lease.__index = Lease

-- Leaves it to whoever will end it.
function Lease:keep()
  self.kept = true
end

-- The answer was read: another request may use the connection, if it is fit for that.
function Lease:finish()
  self.kept = false
  local lease <close> = self
  local carrier = self.carrier
  if carrier and carrier:is_reusable(self.request) and lease.carrier then
    self.carrier = nil
    self.pool:put(self.key, carrier, self.generation)
  end
end

-- The connection is not wanted any more. A second call does nothing.
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
local MAX_CONTEXTS = 64
local EXPIRE_TIME = 1 -- seconds; so often old ones are looked for

-- A pool that keeps `max_idle` connections to one server, for `idle_time` seconds, and opens no
-- more than `limit`, if that is said.
function Pool.new(max_idle, idle_time, limit)
  return setmetatable({
    max_idle = max_idle,
    idle_time = idle_time,
    limit = limit,
    count = 0, -- of idle ones
    idle = {}, -- key -> list of { connection =, since = }, the one used last is the last
    slots = setmetatable({}, { __mode = "v" }), -- key -> Semaphore, while somebody uses it
    contexts = {}, -- fingerprint -> { context =, params = }
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
  if now() - self.expired > EXPIRE_TIME then
    expire(self)
  end
end

-- Closes what is idle, and lets nothing that is in use be kept.
function Pool:close()
  local idle = self.idle
  self.idle, self.count, self.contexts = {}, 0, {}
  self.generation = self.generation + 1
  for _, list in pairs(idle) do
    for _, entry in ipairs(list) do
      entry.connection:close()
    end
  end
end

-- ---- TLS ----

-- The same for the same parameters. A function or an object stands for itself: it is kept as long
-- as its fingerprint is in use.
local function fingerprint(value)
  if type(value) == "table" then
    local items = {}
    for name, item in pairs(value) do
      items[#items + 1] = fingerprint(name) .. "=" .. fingerprint(item)
    end
    table.sort(items)
    return "{" .. table.concat(items, ",") .. "}"
  elseif type(value) == "string" then
    return ("%q"):format(value)
  elseif type(value) == "function" or type(value) == "userdata" then
    return ("%p"):format(value)
  end
  return tostring(value)
end

local function new_context(params)
  local full = { mode = "client" }
  for name, value in pairs(params or {}) do
    full[name] = value
  end
  return require("moonlet.ssl").newcontext(full)
end

-- The context for parameters, and their fingerprint; or nil and what is wrong.
local function find_context(self, params)
  local print = fingerprint(params)
  local entry = self.contexts[print]
  if not entry then
    local context, message = params, nil
    if type(params) ~= "userdata" then
      context, message = new_context(params)
    end
    if not context then
      return nil, message
    end
    local count = 0
    for _ in pairs(self.contexts) do
      count = count + 1
    end
    if count >= MAX_CONTEXTS then
      self:close()
    end
    entry = { context = context, params = params }
    self.contexts[print] = entry
  end
  return entry.context, print
end

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

-- A connection for a request, a kept one unless it shall be fresh: a lease; or nil, why, and errno
-- or the resolver's number.
function Pool:lease(request, proxy, fresh, due)
  local context, print
  if request.parts.scheme == "https" then
    context, print = find_context(self, request.ssl)
    if not context then
      return nil, print
    end
  end
  local key = key_of(request, proxy, print)
  local lease <close> = setmetatable({
    pool = self, key = key, request = request, generation = self.generation,
  }, Lease)
  if self.limit then
    lease.slot = hold_slot(self, key, due)
    if not lease.slot then
      return nil, "timeout"
    end
  end
  lease.carrier = not fresh and take(self, key) or nil
  if not lease.carrier then
    local stream, message, number = dial(request, proxy, context, due)
    if not stream then
      return nil, message, number
    end
    lease.carrier = Connection.new(stream)
  end
  lease:keep()
  return lease
end

return Pool
