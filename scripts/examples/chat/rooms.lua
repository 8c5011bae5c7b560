-- The chat itself, whatever carries it: rooms with a backlog, and users with a queue each.

local moonlet = require "moonlet"
local queue = require "moonlet.queue"

local BACKLOG = 25 -- messages that a room remembers
local MAX_WAITING = 1000 -- events that wait for a user; after that the oldest are dropped
local MAX_NAME, MAX_TEXT = 24, 2000 -- characters

-- ---- users ----

local User = {}
User.__index = User

local function new_user(name, key)
  return setmetatable({
    name = name,
    key = key,          -- known only to who has chosen the name; nil: anyone may use it
    rooms = {},         -- those joined, by name
    events = queue.Queue(MAX_WAITING),
    readers = 0,        -- of them; all but the newest are on their way out
    seen = moonlet.now(),
  }, User)
end

function User:put(event)
  while not self.events:put_nowait(event) do
    self.events:get_nowait()
  end
end

-- A new queue, with all that waits; who reads from the old one is sent away.
function User:_renew_events()
  local old, new = self.events, queue.Queue(MAX_WAITING)
  for _ = 1, #old do
    new:put_nowait(old:get_nowait())
  end
  self.events = new
  old:shutdown()
end

local Reader = {
  __close = function(reader)
    local user = reader.user
    user.readers, user.seen = user.readers - 1, moonlet.now()
  end,
}

--- The queue of what happens for the user, for one reader at a time: earlier ones find it shut
--- down. The second result is to be closed in the end; so long the user does not expire.
function User:read()
  if self.readers > 0 then
    self:_renew_events()
  end
  self.readers = self.readers + 1
  return self.events, setmetatable({ user = self }, Reader)
end

--- A list of all that waits for the user, else of what happens next; empty if nothing does in
--- time.
function User:take(timeout)
  local events, reader = self:read()
  local _ <close> = reader
  local list = { (events:get(timeout)) }
  for i = 2, #events + 1 do
    list[i] = events:get_nowait()
  end
  return list
end

-- ---- rooms ----

local Room = {}
Room.__index = Room

local function new_room(name)
  return setmetatable({ name = name, users = {}, messages = {} }, Room)
end

--- The last messages, the oldest first.
function Room:backlog()
  return table.move(self.messages, 1, #self.messages, 1, {})
end

--- The names of those who are there, in the order in which they came.
function Room:people()
  local names = {}
  for i, user in ipairs(self.users) do
    names[i] = user.name
  end
  return names
end

-- Only who has a key is told who comes and goes.
function Room:_announce(kind, user)
  for _, other in ipairs(self.users) do
    if other.key then
      other:put({ type = kind, room = self.name, name = user.name })
    end
  end
end

--- From now on the user gets what is said here. To join twice changes nothing.
function Room:subscribe(user)
  if not user.rooms[self.name] then
    user.rooms[self.name] = self
    self:_announce("join", user)
    table.insert(self.users, user)
  end
end

function Room:unsubscribe(user)
  user.rooms[self.name] = nil
  for i, other in ipairs(self.users) do
    if other == user then
      table.remove(self.users, i)
      return self:_announce("leave", user)
    end
  end
end

--- Has a message delivered to everybody here, the one who wrote it too.
function Room:add(message)
  for _, user in ipairs(self.users) do
    user:put(message)
  end
  table.insert(self.messages, message)
  if #self.messages > BACKLOG then
    table.remove(self.messages, 1)
  end
end

-- ---- the chat ----

-- Text to be shown: UTF-8 without control characters other than ends of lines.
local function is_text(text, most)
  local length = type(text) == "string" and utf8.len(text)
  return length and length >= 1 and length <= most and text:find("%S") ~= nil and
         not text:find("[\0-\8\11-\31\127]")
end

-- A name is part of a path.
local function is_name(name)
  return is_text(name, MAX_NAME) and not name:find("[/\t\n]") and not name:find("^%.%.?$")
end

local Chat = {}
Chat.__index = Chat

local function new(names)
  local chat = setmetatable({
    rooms = {}, -- by name
    names = names,
    users = {}, -- by name
    count = 0,  -- of messages
    run = math.random(0), -- so that no message has the id of one before a restart
  }, Chat)
  for _, name in ipairs(names) do
    chat.rooms[name] = new_room(name)
  end
  return chat
end

--- The user of that name; nil and a reason if there is none, or the key is not the right one.
function Chat:user(name, key)
  local user = self.users[name]
  if not user then
    return nil, "unknown user"
  elseif user.key ~= key then
    return nil, "name taken"
  end
  return user
end

--- Lets a user into a room, a new one if need be.
function Chat:join(room_name, name, key)
  local room = self.rooms[room_name]
  if not room then
    return nil, "unknown room"
  elseif not is_name(name) then
    return nil, "bad name"
  end
  local user, problem = self:user(name, key)
  if problem == "unknown user" then
    user = new_user(name, key)
    self.users[name] = user
  elseif not user then
    return nil, problem
  end
  user.seen = moonlet.now()
  room:subscribe(user)
  return room
end

--- A message from a user to a room.
function Chat:post(room_name, user, text)
  local room = self.rooms[room_name]
  if not room then
    return nil, "unknown room"
  elseif not is_text(text, MAX_TEXT) then
    return nil, "bad message"
  end
  self.count = self.count + 1
  room:add({
    type = "message",
    id = ("%x-%d"):format(self.run, self.count),
    room = room_name,
    from = user.name,
    text = text,
    time = os.time(),
  })
  return true
end

--- Lets a user go, who leaves all rooms.
function Chat:leave(user)
  self.users[user.name] = nil
  for _, room in pairs(user.rooms) do
    room:unsubscribe(user)
  end
  user.events:shutdown()
end

--- Lets go of everyone who was not seen for so long.
function Chat:expire(seconds)
  local limit = moonlet.now() - seconds
  for _, user in pairs(self.users) do
    if user.readers == 0 and user.seen < limit then
      self:leave(user)
    end
  end
end

return { new = new }
