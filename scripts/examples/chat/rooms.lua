-- The chat in one process: rooms with a backlog, and their users. redis_rooms.lua has another one
-- for many processes, with the same methods.

local moonlet = require "moonlet"
local users = require "users"

local BACKLOG = 25 -- messages that a room remembers

-- ---- rooms ----

local Room = {}
Room.__index = Room

local function new_room(name)
  return setmetatable({ name = name, users = {}, messages = {} }, Room)
end

-- The last messages, the oldest first.
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

-- Of the newest message.
function Chat:_id()
  return ("%x-%d"):format(self.run, self.count)
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

--- The same, to read from.
Chat.follow = Chat.user

--- Lets a user into a room, a new one if need be: who is there, and what was said.
function Chat:join(room_name, name, key)
  local room = self.rooms[room_name]
  if not room then
    return nil, "unknown room"
  elseif not users.is_name(name) then
    return nil, "bad name"
  end
  local user, problem = self:user(name, key)
  if problem == "unknown user" then
    user = users.new(name, key)
    self.users[name] = user
  elseif not user then
    return nil, problem
  end
  user.seen = moonlet.now()
  room:subscribe(user)
  return { room = room_name, messages = room:backlog(), people = room:people(),
           last = self:_id() }
end

--- The rooms, and how many are in each.
function Chat:list()
  local list = {}
  for i, name in ipairs(self.names) do
    list[i] = { name = name, people = #self.rooms[name].users }
  end
  return list
end

--- A message from a user to a room.
function Chat:post(room_name, user, text)
  local room = self.rooms[room_name]
  if not room then
    return nil, "unknown room"
  elseif not users.is_message(text) then
    return nil, "bad message"
  end
  self.count = self.count + 1
  room:add({
    type = "message",
    id = self:_id(),
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
  return true
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
