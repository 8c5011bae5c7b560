-- Users with a queue each of what happens for them, and what names and texts may be.

local moonlet = require "moonlet"
local queue = require "moonlet.queue"

local MAX_WAITING = 1000 -- events that wait for a user; after that the oldest are dropped
local MAX_NAME, MAX_TEXT = 24, 2000 -- characters

local User = {}
User.__index = User

--- A user without rooms. The key is known only to who has chosen the name; nil: anyone may use it.
local function new(name, key)
  return setmetatable({
    name = name,
    key = key,
    rooms = {},         -- those joined: something true by name
    events = queue.Queue(MAX_WAITING),
    readers = 0,        -- of them; all but the newest are on their way out
    seen = moonlet.now(),
  }, User)
end

--- Has something delivered.
function User:put(event)
  while not self.events:put_nowait(event) do
    self.events:get_nowait()
  end
end

--- Sends away who reads: the queue is a new one, with all that waits.
function User:dismiss_readers()
  local old, renewed = self.events, queue.Queue(MAX_WAITING)
  for _ = 1, #old do
    renewed:put_nowait(old:get_nowait())
  end
  self.events = renewed
  old:shutdown()
end

local Reader = {
  __close = function(reader)
    local user = reader.user
    user.readers, user.seen = user.readers - 1, moonlet.now()
  end,
}

--- Replaces what waits by fix(list of it), a list.
function User:mend(fix)
  local list = {}
  for i = 1, #self.events do
    list[i] = self.events:get_nowait()
  end
  for _, event in ipairs(fix(list)) do
    self:put(event)
  end
end

--- The queue of what happens for the user, for one reader at a time: earlier ones find it shut
--- down. The second result is to be closed in the end; so long the user does not expire.
function User:read()
  if self.readers > 0 then
    self:dismiss_readers()
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

-- ---- names and texts ----

-- Text to be shown: UTF-8 without control characters other than ends of lines.
local function is_text(text, most)
  local length = type(text) == "string" and utf8.len(text)
  return length and length >= 1 and length <= most and text:find("%S") ~= nil and
         not text:find("[\0-\8\11-\31\127]")
end

--- A name is part of a path.
local function is_name(name)
  return is_text(name, MAX_NAME) and not name:find("[/\t\n]") and not name:find("^%.%.?$")
end

--- Whether it can be the text of a message.
local function is_message(text)
  return is_text(text, MAX_TEXT)
end

return { new = new, is_name = is_name, is_message = is_message }
