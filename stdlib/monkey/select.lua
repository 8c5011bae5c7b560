-- Waiting for several descriptors.

local moonlet = require "moonlet"
local replace = require "moonlet.monkey.replace"
local selecting = require "moonlet.select"

-- The lists that select wants, of luaposix's table: descriptor -> { events = { IN = true ... } }.
local function lists_of(fds)
  local lists = { IN = {}, OUT = {}, PRI = {} }
  for fd, entry in pairs(fds) do
    for event, list in pairs(lists) do
      if entry.events[event] then
        list[#list + 1] = fd
      end
    end
  end
  return lists
end

-- Calls look() until it finds something (0: nothing), and waits for get_lists() in between.
-- Milliseconds; without a limit, or below 0: for ever.
local function poll(look, get_lists, milliseconds)
  local limit = milliseconds and milliseconds >= 0 and moonlet.now() + milliseconds / 1000 or nil
  local found, message, errno = look()
  while found == 0 and not (limit and moonlet.now() >= limit) do
    local lists = get_lists()
    selecting.select(lists.IN, lists.OUT, lists.PRI, limit and limit - moonlet.now())
    found, message, errno = look()
  end
  return found, message, errno
end

-- The old functions check the arguments and look; they never wait.

local function make_poll(old)
  return type(old) == "function" and function(fds, milliseconds)
    return poll(function()
      return old(fds, 0)
    end, function()
      return lists_of(fds)
    end, milliseconds)
  end or old
end

local function make_rpoll(old)
  return function(fd, milliseconds)
    return poll(function()
      return old(fd, 0)
    end, function()
      return { IN = { fd } }
    end, milliseconds)
  end
end

return function()
  replace.fields("socket", { select = replace.by(require("moonlet.socket").select) })
  replace.fields("posix.poll", { poll = make_poll, rpoll = make_rpoll })
  replace.fields("posix", { poll = make_poll, rpoll = make_rpoll })
end
