-- The chat in many processes, on any number of machines: what they share is in Redis (store.lua).
-- A process has a queue for each of the users who read from it, and hears of all that happens by
-- one connection. Any process will do for a user's next request; none has anything that matters.

local event = require "moonlet.event"
local json = require "dkjson"
local moonlet = require "moonlet"
local store = require "store"
local users = require "users"

local MIN_PAUSE, MAX_PAUSE = 0.1, 2 -- seconds between attempts to reach Redis
local PATIENCE = 2 -- seconds for the first one

-- Whether a message's id is after another's.
local function is_newer(id, other)
  local time, number = id:match("^(%d+)%-(%d+)$")
  local other_time, other_number = other:match("^(%d+)%-(%d+)$")
  time, other_time = tonumber(time), tonumber(other_time)
  return time > other_time or time == other_time and tonumber(number) > tonumber(other_number)
end

-- An id of Redis, and not whatever a client may send.
local function is_id(text)
  return text ~= nil and text:find("^%d+%-%d+$") ~= nil and #text < 32
end

-- What a line of the store says.
local function parse(line)
  local id, text = line:match("^(%S+) (.*)$")
  local happened = json.decode(text)
  happened.id = id ~= "-" and id or nil
  return happened
end

local function parse_all(lines)
  local list = {}
  for i, line in ipairs(lines) do
    list[i] = parse(line)
  end
  return list
end

local function set_of(names)
  local set = {}
  for _, name in ipairs(names) do
    set[name] = true
  end
  return set
end

local Chat = {}
Chat.__index = Chat

--- A chat with rooms of those names. Users who are not heard of are gone after so many seconds.
local function new(names, host, port, expiry)
  return setmetatable({
    names = names,
    rooms = set_of(names),
    expiry = expiry,
    store = store.new(host, port),
    users = {},              -- by name: those who have read here lately
    last = nil,              -- the newest message that was heard here
    heard = event.Event(),   -- that there is one
    listener = nil,
  }, Chat)
end

-- ---- what happens elsewhere ----

function Chat:_forget(user)
  self.users[user.name] = nil
  user.events:shutdown()
end

function Chat:_hear_message(message)
  if not is_newer(message.id, self.last) then
    return -- as a connection was made anew
  end
  self.last = message.id
  for _, user in pairs(self.users) do
    if (not user.rooms or user.rooms[message.room]) and is_newer(message.id, user.last) then
      user:put(message)
    end
  end
end

-- Only who has a key is told who comes and goes.
function Chat:_hear_move(move)
  local mover = self.users[move.name]
  if mover then
    mover.moves = mover.moves + 1
  end
  if mover and mover.rooms then
    mover.rooms[move.room] = move.type == "join" or nil
    if not next(mover.rooms) then
      self:_forget(mover)
    end
  end
  for _, user in pairs(self.users) do
    if user ~= mover and user.key and user.rooms and user.rooms[move.room] then
      user:put(move)
    end
  end
end

function Chat:_hear(line)
  local happened = parse(line)
  if happened.type == "message" then
    self:_hear_message(happened)
  elseif happened.type ~= "tick" then
    self:_hear_move(happened)
  end
end

-- What was published while nobody listened is in the log.
function Chat:_catch_up()
  local news = assert(self.store:call("news", self.last or ""))
  self.last = self.last or news[2]
  for _, line in ipairs(news[1]) do
    self:_hear(line)
  end
  self.heard:set()
  assert(self:expire(self.expiry))
end

-- Listens, through lost connections and restarts of Redis.
function Chat:_listen()
  local pause = MIN_PAUSE
  local function ready()
    self:_catch_up()
    pause = MIN_PAUSE
  end
  local function hear(line)
    self:_hear(line)
  end
  while true do
    local _, problem = moonlet.try(self.store.listen, self.store, self.expiry / 2, ready, hear)
    io.stderr:write(("Redis: %s\n"):format(problem))
    moonlet.sleep(pause)
    pause = math.min(pause * 2, MAX_PAUSE)
  end
end

function Chat:_sweep()
  while true do
    moonlet.sleep(self.expiry / 4)
    self:expire(self.expiry)
  end
end

-- In the process that serves, which may have been forked, as soon as it does.
function Chat:_start()
  if not self.listener then
    self.listener = moonlet.spawn(self._listen, self)
    moonlet.spawn(self._sweep, self)
  end
  return self.heard:wait(PATIENCE)
end

-- ---- what users do ----

--- Somebody who says to be that user: Redis will know.
function Chat:user(name, key)
  return { name = name, key = key }
end

-- The user's queue here, a new one if need be: until the rooms are known it takes everything.
function Chat:_reader(name, key)
  local user = self.users[name]
  if not user then
    user = users.new(name, key)
    user.rooms, user.last, user.moves = nil, self.last, 0
    self.users[name] = user
  end
  user.seen = moonlet.now()
  return user
end

-- The user's rooms, what was said there after a message, and the id up to which this tells all.
function Chat:_find(name, key, after)
  return self.store:call("follow", name, key or "", self.expiry, after or "")
end

-- The same, and of no room that was joined or left while Redis was asked.
function Chat:_find_reader(user, after)
  local moves, found, problem
  repeat
    moves = user.moves
    found, problem = self:_find(user.name, user.key, after)
  until not found or user.moves == moves
  return found, problem
end

-- What was missed comes first, then what has come here since.
local function mend(user, rooms, lines, last)
  user:mend(function(waiting)
    local list = parse_all(lines)
    for _, happened in ipairs(waiting) do
      if rooms[happened.room] and not (happened.id and not is_newer(happened.id, last)) then
        table.insert(list, happened)
      end
    end
    return list
  end)
  user.last = is_newer(last, user.last) and last or user.last
end

--- The user of that name, to read from what happens after the message with that id; without one,
--- from when the user last read here or else came.
function Chat:follow(name, key, after)
  if not self:_start() then
    return nil, "unavailable"
  end
  after = is_id(after) and after or nil
  local old = self.users[name]
  if old and old.key ~= key then -- somebody else has the name now, or wants to
    local found, problem = self:_find(name, key)
    if not found then
      return nil, problem
    elseif self.users[name] == old then
      self:_forget(old)
    end
  end
  local user = self:_reader(name, key)
  if after then
    user:dismiss_readers() -- what they take from now on would be missed
  end
  local found, problem = self:_find_reader(user, after)
  if not found then
    if problem ~= "unavailable" and self.users[name] == user then
      self:_forget(user)
    end
    return nil, problem
  end
  local rooms = set_of(found[1])
  if after or not user.rooms then
    mend(user, rooms, found[2], found[3])
  end
  user.rooms = rooms
  return user
end

--- Lets a user into a room, a new one if need be: who is there, and what was said.
function Chat:join(room_name, name, key)
  if not self.rooms[room_name] then
    return nil, "unknown room"
  elseif not users.is_name(name) then
    return nil, "bad name"
  end
  local found, problem = self.store:call("join", room_name, name, key or "", self.expiry)
  if not found then
    return nil, problem
  end
  return { room = room_name, messages = parse_all(found[1]), people = found[2], last = found[3] }
end

--- The rooms, and how many are in each.
function Chat:list()
  local counts, problem = self.store:call("count", table.unpack(self.names))
  if not counts then
    return nil, problem
  end
  local list = {}
  for i, name in ipairs(self.names) do
    list[i] = { name = name, people = counts[i] }
  end
  return list
end

--- A message from a user to a room: in Redis, and so on its way to all, when this returns its id.
function Chat:post(room_name, user, text)
  if not self.rooms[room_name] then
    return nil, "unknown room"
  elseif not users.is_message(text) then
    return nil, "bad message"
  end
  return self.store:call("post", room_name, user.name, user.key or "", self.expiry, json.encode {
    type = "message", room = room_name, from = user.name, text = text, time = os.time(),
  })
end

--- Lets a user go, who leaves all rooms.
function Chat:leave(user)
  return self.store:call("leave", user.name, user.key or "")
end

--- Says that those who read here are here, and lets go of everyone who was not seen for so long.
function Chat:expire(seconds)
  local here, limit = {}, moonlet.now() - seconds
  for name, user in pairs(self.users) do
    if user.readers > 0 then
      table.insert(here, name)
    elseif user.seen < limit then
      self:_forget(user)
    end
  end
  local args = table.move(self.names, 1, #self.names, 1, {})
  table.move(here, 1, #here, #args + 1, args)
  local gone, problem = self.store:call("sweep", seconds, #self.names, table.unpack(args))
  for _, name in ipairs(gone or {}) do
    if self.users[name] then
      self:_forget(self.users[name])
    end
  end
  return gone, problem
end

return { new = new }
