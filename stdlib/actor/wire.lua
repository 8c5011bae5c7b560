-- What actors of different processes send each other: values as strings, with actors in them.
--
-- An actor in a message becomes a table with MARK and how the receiver finds it. Most messages have
-- none, so that tables are walked through only when the encoder has met a metatable.

local values = require "moonlet.values.core"

local MARK = "moonlet.actor"

local wire = {}

-- A copy of the value with each actor replaced by what replace(actor) returns.
local function replaced(value, replace, seen)
  if type(value) ~= "table" then
    return value
  elseif seen[value] then
    return seen[value]
  end
  local found = replace(value)
  if found or getmetatable(value) then
    seen[value] = found or value
    return seen[value]
  end
  local copy = {}
  seen[value] = copy
  for key, item in next, value do
    copy[replaced(key, replace, seen)] = replaced(item, replace, seen)
  end
  return copy
end

-- The string for a message about a target; `name(actor)` gives the table that stands for an actor.
-- Returns nil and the reason if a value cannot be sent.
function wire.encode(name, ...)
  local text, reason = values.encode(false, ...)
  if text or not reason:find("metatable", 1, true) then
    return text, reason
  end
  local list, seen = table.pack(...), {}
  for i = 1, list.n do
    list[i] = replaced(list[i], function(value)
      local found = name(value)
      return found and { [MARK] = found }
    end, seen)
  end
  return values.encode(true, table.unpack(list, 1, list.n))
end

-- The values again; `find(table)` gives the actor.
function wire.decode(find, text)
  local list = table.pack(values.decode(text))
  if list[1] then
    local seen = {}
    for i = 2, list.n do
      list[i] = replaced(list[i], function(value)
        return value[MARK] and find(value[MARK])
      end, seen)
    end
  end
  return table.unpack(list, 2, list.n)
end

return wire
