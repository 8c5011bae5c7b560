-- The io functions that tell files from other values: they know Files of moonlet.os too.

local moonlet_os = require "moonlet.os"
local replace = require "moonlet.monkey.replace"

local files = {}

-- Values of any kind are asked for, so that only metatables are looked at.
function files.is_file(value)
  local class = type(value) == "userdata" and debug.getmetatable(value)
  while class and class ~= moonlet_os.File do
    class = rawget(class, "super")
  end
  return class == moonlet_os.File
end

local is_file = files.is_file

-- The parameters are the old functions, and their names those in error messages.
local makers = {}

function makers.type(type)
  return function(...)
    local value = ...
    if is_file(value) then
      return value:getfd() >= 0 and "file" or "closed file"
    end
    return type(...)
  end
end

function makers.close(close)
  return function(...)
    local file = ...
    if is_file(file) then
      return file:close()
    end
    return close(...)
  end
end

-- Whoever has the old ones can go on with Lua's own files.
replace.fields("io", makers, true)

return files
