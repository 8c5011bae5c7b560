-- Standard input, by the functions that read it.

local files = require "moonlet.monkey.files"
local moonlet_os = require "moonlet.os"
local replace = require "moonlet.monkey.replace"

local old_stdin = io.stdin
local default -- input, while it is a File; otherwise Lua knows

-- The parameters are the old functions, and their names those in error messages.
local makers = {}

function makers.input(input)
  return function(file)
    if file == nil then
      return default or input()
    end
    if file == old_stdin then
      file = moonlet_os.stdin
    end
    if files.is_file(file) then
      default = file
      return file
    end
    local opened = input(file)
    default = nil
    return opened
  end
end

function makers.read(read)
  return function(...)
    if default then
      return default:read(...)
    end
    return read(...)
  end
end

function makers.lines(lines)
  return function(name, ...)
    if name == nil and default then
      return default:lines(...)
    end
    return lines(name, ...)
  end
end

return function()
  local stdin = moonlet_os.stdin
  if not stdin then
    return -- it is closed: nothing can block there
  end
  if io.input() == old_stdin then
    default = stdin
  end
  replace.fields("io", makers)
  replace.fields("io", { stdin = replace.by(stdin) })
end
