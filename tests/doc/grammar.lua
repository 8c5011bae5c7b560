-- What a documentation comment says. Its form is the same in C and in Lua, and strict:
--
--     SIGNATURE {, SIGNATURE}: TEXT        one function, or several with the same arguments;
--                                          they may go on in the next line after a comma
--     TEXT                                 (in Lua the code below may be the signature)
--
--         indented by four: an example
--
--     @param NAME[?] TYPE [TEXT]           for each argument but `...`, in their order
--     @return TYPE [NAME] [# TEXT]         for each result
--     @raise TEXT                          errors other than bad arguments
--     Source: TEXT                         what the function is modelled on
--     Differs: GEVENT | MOONLET            what the one does, and the other does instead
--
-- A class has `@class NAME[: PARENT]` and `@field NAME[?] TYPE [TEXT]`; a module `@module NAME`,
-- @field, `Differs: TOPIC | GEVENT | MOONLET`, and @return if it is something other than a table
-- of functions. In Lua the comment at the top of a file is its module's.
--
-- Text comes before the tags. A tag goes on in lines that are indented by two. Types are those
-- of LuaCATS, without a space outside brackets; a class may go by the last part of its name.

local grammar = {}

local function fail(block, message, ...)
  error(("%s:%d: %s"):format(block.file, block.line, message:format(...)), 0)
end

-- ---- signatures ----

-- "item [, timeout]" -> { { name = "item" }, { name = "timeout", optional = true } }
local function parse_arguments(block, text)
  local list, depth = {}, 0
  for marks, name in text:gsub("%s", ""):gmatch("([%[%],]*)([^%[%],]+)") do
    depth = depth + select(2, marks:gsub("%[", ""))
    if name ~= "..." and not name:match("^[%a_][%w_]*$") then
      fail(block, "'%s' is no name of an argument", name)
    end
    table.insert(list, { name = name, optional = depth > 0 })
  end
  return list
end

-- Without an owner the name is that of a class, which is called to construct.
local function parse_signature(block, path, arguments)
  local owner, separator, name = path:match("^(.*)([.:])([%w_]+)$")
  return {
    owner = owner,
    separator = separator,
    name = name or path,
    text = arguments,
    arguments = parse_arguments(block, arguments),
  }
end

-- The signatures at the beginning of a line, and the text after them; nil if there are none.
local function split_head(block, line)
  local found, rest = {}, line
  while rest do
    local path, arguments, after = rest:match("^([%a_][%w_.]*:?[%w_]*)(%b())(.*)")
    if not path then
      return nil
    end
    table.insert(found, { path, arguments:sub(2, -2) })
    local text = after:match("^:%s*(.*)")
    if text then
      for i, parts in ipairs(found) do
        found[i] = parse_signature(block, parts[1], parts[2])
      end
      return found, text
    end
    rest = after:match("^, (.*)")
  end
end

-- "item, timeout?" as it is written in a signature: "item [, timeout]".
local function show_arguments(arguments)
  local text, open = "", 0
  for i, argument in ipairs(arguments) do
    local comma = i > 1 and ", " or ""
    if argument.optional then
      text, open = text .. (i > 1 and " [" or "[") .. comma, open + 1
    else
      text = text .. comma
    end
    text = text .. argument.name
  end
  return text .. ("]"):rep(open)
end

-- In Lua the function below has the names; @param tells which are optional.
local function signature_of_code(block, entry)
  local path, names = (block.code or ""):match("^%s*function ([%w_.:]+)(%b())")
  if not path then
    fail(block, "neither a signature nor a function below")
  end
  local signature = parse_signature(block, path, names:sub(2, -2))
  if signature.name == "new" then
    signature.owner, signature.name = nil, signature.owner
  end
  local optional = {}
  for _, param in ipairs(entry.params) do
    optional[param.name] = param.optional
  end
  for _, argument in ipairs(signature.arguments) do
    argument.optional = optional[argument.name]
  end
  signature.text = show_arguments(signature.arguments)
  return { signature }
end

-- ---- tags ----

-- The type at the beginning of a text, and what comes after it.
local function split_type(block, text)
  local depth, position = 0, 1
  while position <= #text do
    local char = text:sub(position, position)
    if char == '"' then
      position = text:find('"', position + 1, true) or fail(block, "unfinished string in a type")
    elseif char:match("[%(%{<%[]") then
      depth = depth + 1
    elseif char:match("[%)%}>%]]") then
      depth = depth - 1
    elseif char == " " and depth == 0 then
      break
    end
    position = position + 1
  end
  if position == 1 or depth ~= 0 then
    fail(block, "a type is missing in '%s'", text)
  end
  return text:sub(1, position - 1), text:sub(position):match("^%s*(.*)")
end

local function named(block, text)
  local name, mark, rest = text:match("^([%w_.]+)(%??)%s+(.*)")
  if not name then
    fail(block, "a name and a type are missing in '%s'", text)
  end
  local type, comment = split_type(block, rest)
  return { name = name, optional = mark == "?", type = type, text = comment }
end

local read = {}

function read.param(entry, text, block)
  table.insert(entry.params, named(block, text))
end

function read.field(entry, text, block)
  table.insert(entry.fields, named(block, text))
end

read["return"] = function(entry, text, block)
  local type, rest = split_type(block, text)
  local name, comment = rest:match("^([%w_.]*)%s*(.*)")
  if comment ~= "" and not comment:match("^# ") then
    fail(block, "'#' is missing in '@return %s'", text)
  end
  table.insert(entry.returns, { type = type, name = name, text = comment:sub(3) })
end

function read.raise(entry, text)
  table.insert(entry.raises, text)
end

function read.generic(entry, text)
  table.insert(entry.generics, text)
end

-- For editors that read the source itself.
function read.overload() end

read["class"] = function(entry, text, block)
  entry.kind, entry.name = "class", text:match("^[%w_.]+")
  entry.parent = text:match(": ?([%w_.]+)$")
  if not entry.name then
    fail(block, "no name of a class: '%s'", text)
  end
end

function read.module(entry, text)
  entry.kind, entry.name = "module", text
end

function read.Source(entry, text)
  entry.source = text
end

function read.Differs(entry, text)
  local parts = {}
  for part in (text .. "|"):gmatch("%s*(.-)%s*|") do
    table.insert(parts, part)
  end
  table.insert(entry.differs, parts)
end

local HEADERS = { class = true, module = true }

-- Separates the text from the tags: a list of { tag, text }.
local function split_lines(block)
  local text, items, header = {}, {}, nil
  for _, line in ipairs(block.lines) do
    local tag, rest = line:match("^@(%a+)%s*(.*)")
    if not tag then
      tag, rest = line:match("^(%u%l+): (.*)")
      tag = (tag == "Source" or tag == "Differs") and tag
    end
    local item = items[#items]
    if tag and not read[tag] then
      fail(block, "unknown tag '@%s'", tag)
    elseif tag and HEADERS[tag] then
      header = { tag, rest }
    elseif tag then
      table.insert(items, { tag, rest })
    elseif item and line:match("^  ") then
      item[2] = item[2] .. " " .. line:match("^%s*(.*)")
    elseif item then
      fail(block, "text below the tags: '%s'", line)
    elseif line:find("Source: ", 1, true) then
      fail(block, "'Source:' must begin a line")
    else
      table.insert(text, line)
    end
  end
  return text, items, header
end

-- ---- a whole block ----

local function check_arguments(block, entry)
  local function describe(list)
    local names = {}
    for _, argument in ipairs(list) do
      if argument.name ~= "..." and argument.name ~= "self" then
        table.insert(names, argument.name .. (argument.optional and "?" or ""))
      end
    end
    return table.concat(names, ", ")
  end
  local documented = describe(entry.params)
  for _, signature in ipairs(entry.signatures) do
    local wanted = describe(signature.arguments)
    if documented ~= wanted then
      fail(block, "%s(): its arguments are '%s', its @param are '%s'", signature.name, wanted,
           documented)
    end
  end
end

local function check_differs(block, entry)
  local wanted = entry.kind == "module" and 3 or 2
  for _, parts in ipairs(entry.differs) do
    if #parts ~= wanted then
      fail(block, "'Differs:' has %d parts instead of %d", #parts, wanted)
    end
  end
end

local function add_head(block, entry)
  while (entry.text[1] or ""):match("%),$") and entry.text[2] do
    entry.text[1] = entry.text[1] .. " " .. table.remove(entry.text, 2)
  end
  local signatures, text = split_head(block, entry.text[1] or "")
  if signatures then
    entry.signatures, entry.text[1] = signatures, text
    if text == "" then
      table.remove(entry.text, 1)
    end
  elseif block.language == "Lua" and block.line == 1 then
    local name = block.file:match("stdlib/(.*)%.lua$") or fail(block, "a module outside stdlib")
    entry.kind, entry.name = "module", "moonlet." .. name:gsub("/", ".")
  elseif block.language == "Lua" then
    entry.signatures = signature_of_code(block, entry)
  else
    fail(block, "it does not begin with a signature")
  end
end

-- What a block of blocks.read() says; raises "FILE:LINE: what is wrong".
function grammar.parse(block)
  local text, items, header = split_lines(block)
  local entry = {
    kind = "function", file = block.file, line = block.line, text = text,
    params = {}, returns = {}, raises = {}, generics = {}, fields = {}, differs = {},
  }
  for _, item in ipairs(items) do
    read[item[1]](entry, item[2], block)
  end
  if header then
    read[header[1]](entry, header[2], block)
  else
    add_head(block, entry)
  end
  if entry.kind == "function" then
    check_arguments(block, entry)
  end
  check_differs(block, entry)
  return entry
end

return grammar
