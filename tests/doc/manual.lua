-- Writes the manual: one page of Markdown, a section for each module, class and function.

local manual = {}

local function add(lines, format, ...)
  table.insert(lines, select("#", ...) > 0 and format:format(...) or format)
end

-- ---- text ----

local MARKUP = { ["<"] = "&lt;", ["*"] = "\\*", ["|"] = "\\|" }

-- What stands in backticks stays as it is.
local function prose(text)
  local code, i = {}, 0
  text = text:gsub("`[^`]*`", function(quoted)
    table.insert(code, quoted)
    return "\0"
  end)
  text = text:gsub("%s+", " "):gsub("[<*|]", MARKUP):gsub("%f[%w_]_+", function(bars)
    return ("\\_"):rep(#bars)
  end)
  return (text:gsub("\0", function()
    i = i + 1
    return code[i]
  end))
end

local function is_code(line)
  return line:match("^    ") ~= nil
end

local function add_text(lines, entry)
  local was_code = false
  for _, line in ipairs(entry.text) do
    if is_code(line) ~= was_code then
      add(lines, was_code and "```" or "```lua")
      was_code = not was_code
    end
    if was_code then
      add(lines, "%s", line:sub(5))
    else
      add(lines, "%s", prose(line))
    end
  end
  if was_code then
    add(lines, "```")
  end
  add(lines, "")
end

-- Classes go by their short names here.
local function show_type(type)
  return "`" .. type:gsub("moonlet[%w_.]*%.([%w_]+)", "%1") .. "`"
end

local function described(line, text)
  return text ~= "" and line .. ": " .. prose(text) or line
end

-- ---- functions ----

local function show_signature(signature)
  local owner = signature.owner and signature.owner .. signature.separator or ""
  return ("`%s%s(%s)`"):format(owner, signature.name, signature.text)
end

local function show_signatures(entry)
  local list = {}
  for _, signature in ipairs(entry.signatures) do
    table.insert(list, show_signature(signature))
  end
  return table.concat(list, ", ")
end

local function anchor(owner, signature)
  return ("%s%s%s"):format(owner.name, signature.owner and "." or "-", signature.name)
end

local function add_params(lines, entry)
  for _, param in ipairs(entry.params) do
    if param.name ~= "self" then
      local mark = param.optional and ", optional" or ""
      local line = ("- `%s` (%s%s)"):format(param.name, show_type(param.type), mark)
      add(lines, "%s", described(line, param.text))
    end
  end
end

local function add_results(lines, entry)
  for _, result in ipairs(entry.returns) do
    local name = result.name ~= "" and result.name ~= "..." and " " .. result.name or ""
    local type = show_type(result.type .. (result.name == "..." and " ..." or ""))
    add(lines, "%s", described(("- returns %s%s"):format(type, name), result.text))
  end
  for _, text in ipairs(entry.raises) do
    add(lines, "- raises %s", prose(text))
  end
end

local function add_source(lines, entry)
  if entry.source then
    add(lines, "*Source: %s*", prose(entry.source))
    add(lines, "")
  end
end

local function add_function(lines, entry, owner, level)
  for _, signature in ipairs(entry.signatures) do
    add(lines, '<a id="%s"></a>', anchor(owner, signature))
  end
  add(lines, "")
  add(lines, "%s %s", level, show_signatures(entry))
  add(lines, "")
  add_text(lines, entry)
  add_params(lines, entry)
  add_results(lines, entry)
  if #entry.params + #entry.returns + #entry.raises > 0 then
    add(lines, "")
  end
  add_source(lines, entry)
end

local function add_functions(lines, list, owner, level)
  for _, entry in ipairs(list) do
    add_function(lines, entry, owner, level)
  end
end

-- ---- classes ----

local function add_fields(lines, entry)
  if #entry.fields == 0 then
    return
  end
  add(lines, "Fields:")
  add(lines, "")
  for _, field in ipairs(entry.fields) do
    local mark = field.optional and " or nil" or ""
    add(lines, "%s", described(("- `%s` (%s%s)"):format(field.name, show_type(field.type), mark),
                               field.text))
  end
  add(lines, "")
end

local function link(owner, signature)
  return ("[%s](#%s)"):format(signature.name:gsub("^_+", "\\%0"), anchor(owner, signature))
end

local function links(owner, list)
  local names = {}
  for _, entry in ipairs(list) do
    for _, signature in ipairs(entry.signatures) do
      table.insert(names, link(owner, signature))
    end
  end
  return table.concat(names, ", ")
end

local function add_inherited(lines, class)
  local parent = class.parent
  while parent do
    local names = links(parent, parent.functions)
    if names ~= "" then
      add(lines, "From [%s](#%s): %s.", parent.short, parent.name, names)
      add(lines, "")
    end
    parent = parent.parent
  end
end

local function add_class(lines, class)
  add(lines, '<a id="%s"></a>', class.name)
  add(lines, "")
  add(lines, "### Class %s", class.short)
  add(lines, "")
  add_text(lines, class)
  add_fields(lines, class)
  add_inherited(lines, class)
  add_source(lines, class)
  add_functions(lines, class.constructors, class, "####")
  add_functions(lines, class.functions, class, "####")
end

-- ---- modules ----

-- What several owners share differs only once.
local function add_row(rows, topic, parts)
  if not rows[parts] then
    rows[parts] = true
    table.insert(rows, { topic, parts[#parts - 1], parts[#parts] })
  end
end

local function add_rows(rows, list)
  for _, entry in ipairs(list) do
    for _, parts in ipairs(entry.differs) do
      add_row(rows, show_signatures(entry), parts)
    end
  end
end

local function difference_rows(module)
  local rows = {}
  for _, parts in ipairs(module.differs) do
    add_row(rows, prose(parts[1]), parts)
  end
  add_rows(rows, module.functions)
  for _, class in ipairs(module.classes) do
    for _, parts in ipairs(class.differs) do
      add_row(rows, "`" .. class.short .. "`", parts)
    end
    add_rows(rows, class.constructors)
    add_rows(rows, class.functions)
  end
  return rows
end

local function add_differences(lines, module)
  local rows = difference_rows(module)
  if #rows == 0 then
    return
  end
  add(lines, "### Where Moonlet differs from gevent: %s", module.name)
  add(lines, "")
  add(lines, "| | gevent | Moonlet |")
  add(lines, "| --- | --- | --- |")
  for _, row in ipairs(rows) do
    add(lines, "| %s | %s | %s |", row[1], prose(row[2]), prose(row[3]))
  end
  add(lines, "")
end

local function add_module(lines, module)
  add(lines, '<a id="%s"></a>', module.name)
  add(lines, "")
  add(lines, "## %s", module.name)
  add(lines, "")
  add_text(lines, module)
  if module.returns[1] then
    add(lines, "`require` returns the class %s.", show_type(module.returns[1].type))
    add(lines, "")
  end
  add_fields(lines, module)
  add_functions(lines, module.functions, module, "###")
  for _, class in ipairs(module.classes) do
    add_class(lines, class)
  end
  add_differences(lines, module)
end

local function add_contents(lines, list)
  add(lines, "## Contents")
  add(lines, "")
  for _, module in ipairs(list) do
    local names = links(module, module.functions)
    add(lines, "- [%s](#%s)%s", module.name, module.name, names ~= "" and ": " .. names or "")
    for _, class in ipairs(module.classes) do
      local methods = links(class, class.functions)
      add(lines, "  - [%s](#%s)%s", class.short, class.name,
          methods ~= "" and ": " .. methods or "")
    end
  end
  add(lines, "")
end

-- The whole page, for a model.read().
function manual.write(documentation)
  local lines = { "# Moonlet: the manual", "" }
  add(lines, "Made by `make doc` from the comments in the sources. C programs: see `moonlet.h`.")
  add(lines, "")
  add_contents(lines, documentation.list)
  for _, module in ipairs(documentation.list) do
    add_module(lines, module)
  end
  return table.concat(lines, "\n"):gsub("\n+$", "") .. "\n"
end

return manual
