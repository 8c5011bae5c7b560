-- Writes annotations for lua-language-server: one `---@meta` file for each module.

local annotations = {}

local function add(lines, format, ...)
  table.insert(lines, select("#", ...) > 0 and format:format(...) or format)
end

local function add_text(lines, entry)
  for _, line in ipairs(entry.text) do
    add(lines, "---" .. line)
  end
  for _, text in ipairs(entry.raises) do
    add(lines, "---")
    add(lines, "---Raises %s.", (text:gsub("%.$", "")))
  end
  if entry.source then
    add(lines, "---")
    add(lines, "---Source: %s", entry.source)
  end
end

local function optional(item)
  return item.optional and "?" or ""
end

local function described(line, text)
  return text ~= "" and line .. " " .. text or line
end

local function add_fields(lines, entry)
  for _, field in ipairs(entry.fields) do
    local line = ("---@field %s%s %s"):format(field.name, optional(field), field.type)
    add(lines, described(line, field.text))
  end
end

local function argument_names(signature)
  local names = {}
  for _, argument in ipairs(signature.arguments) do
    table.insert(names, argument.name)
  end
  return table.concat(names, ", ")
end

local function result_type(entry)
  return entry.returns[1] and entry.returns[1].type or "nil"
end

-- "fun(maxsize?: integer): moonlet.queue.Queue"
local function function_type(entry, signature, result)
  local types, list = {}, {}
  for _, param in ipairs(entry.params) do
    types[param.name] = param.type
  end
  for _, argument in ipairs(signature.arguments) do
    table.insert(list, ("%s%s: %s"):format(argument.name, argument.name ~= "..." and
                                           optional(argument) or "", types[argument.name] or "any"))
  end
  return ("fun(%s): %s"):format(table.concat(list, ", "), result)
end

-- Metamethods of a class that the language server knows by annotations.
local function add_metamethod(lines, entry, signature)
  if signature.name == "__call" then
    add(lines, "---@overload %s", function_type(entry, signature, result_type(entry)))
  elseif signature.name == "__len" then
    add(lines, "---@operator len: %s", result_type(entry))
  end
end

local function add_function(lines, entry, signature, path)
  add(lines, "")
  add_text(lines, entry)
  for _, name in ipairs(entry.generics) do
    add(lines, "---@generic %s", name)
  end
  for _, param in ipairs(entry.params) do
    local line = ("---@param %s%s %s"):format(param.name, optional(param), param.type)
    add(lines, described(line, param.text))
  end
  for _, result in ipairs(entry.returns) do
    local line = described("---@return " .. result.type, result.name)
    add(lines, result.text ~= "" and line .. " # " .. result.text or line)
  end
  local separator = signature.separator == ":" and ":" or "."
  add(lines, "function %s%s%s(%s) end", path, separator, signature.name,
      argument_names(signature))
end

local function add_functions(lines, list, path)
  for _, entry in ipairs(list) do
    for _, signature in ipairs(entry.signatures) do
      if not signature.name:match("^__") then
        add_function(lines, entry, signature, path)
      end
    end
  end
end

-- Classes that are not in the module's table are known by their instances only.
local function add_class(lines, class, module)
  local is_module = module.returns[1] and module.returns[1].type == class.name
  local exported = #class.constructors > 0 and not is_module
  local path = exported and "M." .. class.short or class.short
  add(lines, "")
  add_text(lines, class)
  local parent = class.parent and ": " .. class.parent.name or ""
  add(lines, "---@class %s%s", class.name, parent)
  add_fields(lines, class)
  for _, entry in ipairs(class.constructors) do
    add(lines, "---@overload %s", function_type(entry, entry.signatures[1], class.name))
  end
  for _, entry in ipairs(class.functions) do
    for _, signature in ipairs(entry.signatures) do
      add_metamethod(lines, entry, signature)
    end
  end
  add(lines, "%s%s = {}", exported and "" or "local ", path)
  add_functions(lines, class.functions, path)
end

-- The annotations of one module of model.read(), as Lua source.
function annotations.write(module)
  local lines = { "---@meta " .. module.name, "" }
  add_text(lines, module)
  local result = module.returns[1]
  if not result then
    add(lines, "---@class %s", module.name)
    add_fields(lines, module)
    add(lines, "local M = {}")
  end
  add_functions(lines, module.functions, "M")
  for _, class in ipairs(module.classes) do
    add_class(lines, class, module)
  end
  add(lines, "")
  add(lines, "return %s", result and result.type:match("[%w_]+$") or "M")
  return table.concat(lines, "\n") .. "\n"
end

-- Where require "MODULE" finds it, below the library's folder.
function annotations.path(module)
  local path = module.name:gsub("%.", "/")
  return (path == "moonlet" and "moonlet/init" or path) .. ".lua"
end

return annotations
