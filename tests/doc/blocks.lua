-- Finds the documentation comments of a source file: /*** ... */ in C, --- ... in Lua.

local blocks = {}

local function add_line(block, text)
  text = text:gsub("%s+$", "")
  if text ~= "" or #block.lines > 0 then
    table.insert(block.lines, text)
  end
end

local function add_block(found, block)
  while block.lines[#block.lines] == "" do
    table.remove(block.lines)
  end
  table.insert(found, block)
end

local function read_c(path)
  local found, number, block = {}, 0, nil
  for line in io.lines(path) do
    number = number + 1
    local text
    if block then
      text = line:gsub("^%s*%* ?", "", line:match("^%s*%*/") and 0 or 1)
    else
      text = line:match("^%s*/%*%*%* ?(.*)")
      block = text and { file = path, line = number, language = "C", lines = {} }
    end
    if block then
      local inside, ends = text:gsub("%s*%*/%s*$", "")
      add_line(block, inside)
      if ends > 0 then
        add_block(found, block)
        block = nil
      end
    end
  end
  return found
end

-- The line of code below a comment goes with it.
local function read_lua(path)
  local found, number, block = {}, 0, nil
  for line in io.lines(path) do
    number = number + 1
    local text = line:match(block and "^%s*%-%-%-? ?(.*)" or "^%s*%-%-%- ?(.*)")
    if text then
      block = block or { file = path, line = number, language = "Lua", lines = {} }
      add_line(block, text)
    elseif block then
      block.code = line
      add_block(found, block)
      block = nil
    end
  end
  return found
end

-- The blocks of one file: a list of { file, line, language, lines, code (Lua) }.
function blocks.read(path)
  return (path:match("%.lua$") and read_lua or read_c)(path)
end

return blocks
