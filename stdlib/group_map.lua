-- map, imap and imap_unordered of groups (gevent.pool's IMap).
--
-- A feeder greenlet takes items from the list and spawns a worker in the group for each. A
-- worker that ends is put into a queue of arrivals, from which the consumer takes the results.

local lock = require "moonlet.lock"
local moonlet = require "moonlet"
local queue = require "moonlet.queue"

-- An iterator over an array.
local function each(list)
  local i, n = 0, list.n or #list
  return function()
    i = i + 1
    if i <= n then
      return list[i], true
    end
  end
end

local Mapping = {}
Mapping.__index = Mapping

-- Puts an arrival; the last one shuts the queue, which lets all consumers go.
function Mapping:arrive(arrival)
  self.arrived = self.arrived + 1
  self.arrivals:put(arrival)
  self:finish_if_complete()
end

function Mapping:finish_if_complete()
  if self.arrived == self.total then
    self.arrivals:shutdown()
  end
end

-- What the feeder does. When it ends, whether by an error of the list's iterator or by a
-- kill, the number of arrivals is known; such an error counts as one.
local function feed(self, group, f, next_item)
  local fed, window = 0, self.window
  local _ <close> = setmetatable({}, { __close = function(_, err)
    local killed = type(err) == "table" and err.is and err:is(moonlet.GreenletExit)
    if err ~= nil and not killed then
      fed = fed + 1
      self:arrive({ index = fed, failed = true, err = err })
    end
    self.total = fed
    self:finish_if_complete()
  end })
  while true do
    if window then
      window:acquire()
    end
    local item, more = next_item()
    if item == nil and not more then
      return
    end
    local index = fed + 1
    local worker = group:spawn(f, item)
    fed = index
    worker:rawlink(function()
      self:arrive({ index = index, worker = worker })
    end)
  end
end

-- Feeds in a greenlet whose failure is the consumer's to raise.
local function start(group, f, next_item, maxsize, ordered)
  local self = setmetatable({
    arrivals = queue.Queue(),
    window = maxsize and lock.Semaphore(maxsize) or nil,
    ordered = ordered,
    waiting = {}, -- arrivals before their turn, by index
    arrived = 0,
    taken = 0,
  }, Mapping)
  self.feeder = moonlet.spawn(function()
    moonlet.try(feed, self, group, f, next_item)
  end)
  group._feeders[self.feeder] = true
  return self
end

-- The arrival that is next, or nil when there are no more.
function Mapping:next_arrival()
  while true do
    local arrival = self.waiting[self.taken + 1]
    if arrival then
      self.waiting[self.taken + 1] = nil
      return arrival
    end
    arrival = self.arrivals:get()
    if not arrival or not self.ordered then
      return arrival
    end
    self.waiting[arrival.index] = arrival
  end
end

-- true and the results of the next worker; false when there are no more; raises its error.
function Mapping:take()
  local arrival = self:next_arrival()
  if not arrival then
    return false
  end
  self.taken = self.taken + 1
  if self.window then
    self.window:release()
  end
  if arrival.failed then
    error(arrival.err, 0)
  end
  return true, arrival.worker:get()
end

local function results(more, ...)
  if more then
    return ...
  end
end

-- For a generic for: the iterator, and a closing value that stops the feeder at a break.
local function iterator(self)
  return function()
    return results(self:take())
  end, nil, nil, setmetatable({}, { __close = function()
    moonlet.kill(self.feeder)
  end })
end

return function(Group, bad_argument, is_callable)
  -- The list as an iterator: a table is one if it can be called, and otherwise an array. Errors
  -- are those of who called the method.
  local function check(name, f, list, maxsize)
    if not is_callable(f) then
      bad_argument(1, name, "function", f, 4)
    elseif type(list) ~= "table" and not is_callable(list) then
      bad_argument(2, name, "table or iterator", list, 4)
    elseif maxsize ~= nil and (math.type(maxsize) ~= "integer" or maxsize < 1) then
      bad_argument(3, name, "positive integer", maxsize, 4)
    end
    return is_callable(list) and list or each(list)
  end

  --- f over the items of a list; the first results, in the list's order.
  -- After a failure the other workers run on.
  ---@param f function
  ---@param list table|function an array, or an iterator, which may be a callable table
  ---@return any[]
  ---@raise the first failure, in the list's order
  function Group:map(f, list)
    local mapping = start(self, f, check("map", f, list), nil, true)
    local collected, n = {}, 0
    local function add(more, result)
      n = n + 1
      collected[n] = result
      return more
    end
    while add(mapping:take()) do end
    return collected
  end

  --- The same without waiting.
  ---@param f function
  ---@param list table|function
  ---@param callback? function called with the list of results, unless one fails
  ---@return moonlet.Greenlet # whose value is that list
  function Group:map_async(f, list, callback)
    local greenlet = moonlet.spawn(self.map, self, f, check("map_async", f, list))
    if callback then
      greenlet:link_value(function(ended)
        callback(ended.value)
      end)
    end
    return greenlet
  end

  --- Iterates over f's results in the order of the list; work starts at the call.
  -- An error of f is raised by the iterator, which goes on with the next result afterwards.
  -- A result of nil ends a generic for loop.
  -- Differs: gives one result a call | gives all results of each call
  ---@param f function
  ---@param list table|function
  ---@param maxsize? integer how many results there may be ahead of the consumer
  ---@return fun():any
  function Group:imap(f, list, maxsize)
    return iterator(start(self, f, check("imap", f, list, maxsize), maxsize, true))
  end

  --- The same in the order in which the results come.
  ---@param f function
  ---@param list table|function
  ---@param maxsize? integer
  ---@return fun():any
  function Group:imap_unordered(f, list, maxsize)
    return iterator(start(self, f, check("imap_unordered", f, list, maxsize), maxsize, false))
  end
end
