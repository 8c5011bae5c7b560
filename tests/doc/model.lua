-- Puts what all comments say together: modules, their classes, and the functions of both.

local blocks = require "doc.blocks"
local grammar = require "doc.grammar"

local model = {}

local Model = {}
Model.__index = Model

function Model:fail(entry, message, ...)
  table.insert(self.errors, ("%s:%d: %s"):format(entry.file, entry.line, message:format(...)))
end

-- ---- names ----

-- A class by its full name, or by the last part of it: that of the same file, or the only one.
function Model:find_class(name, file)
  if self.classes[name] then
    return self.classes[name]
  end
  local found, count = nil, 0
  for _, class in pairs(self.classes) do
    if class.short == name then
      if class.file == file then
        return class
      end
      found, count = class, count + 1
    end
  end
  return count == 1 and found or nil
end

function Model:find_module(name)
  return self.modules[name] or self.modules["moonlet." .. name]
end

local BUILTIN = {}
for name in ([[any nil boolean string number integer function table thread userdata file fun self
               true false]]):gmatch("%w+") do
  BUILTIN[name] = true
end

-- The same type with full names of classes.
function Model:resolve_type(entry, type)
  local known = {}
  for _, name in ipairs(entry.generics) do
    known[name] = true
  end
  local function resolve(name, mark)
    local is_argument = mark:match(":")
    if is_argument or BUILTIN[name] or known[name] then
      return nil
    end
    local class = self:find_class(name, entry.file)
    if not class then
      self:fail(entry, "unknown type '%s'", name)
      return nil
    end
    return class.name .. mark
  end
  return ((type .. '""'):gsub('([^"]*)("[^"]*")', function(names, constant)
    return names:gsub("([%a_][%w_.]*)([?:]*)", resolve) .. constant
  end):sub(1, -3))
end

function Model:resolve_types(entry)
  for _, list in ipairs { entry.params, entry.returns, entry.fields } do
    for _, item in ipairs(list) do
      item.type = self:resolve_type(entry, item.type)
    end
  end
end

-- ---- putting together ----

-- The text after a signature begins like a sentence, unless it begins with a name.
local function begin_sentence(entry)
  local word = entry.text[1]:match("^(%l+)[ ,;:.]")
  local names = { ["true"] = true, ["false"] = true, ["nil"] = true }
  for _, signature in ipairs(entry.signatures) do
    names[signature.name] = true
    for _, argument in ipairs(signature.arguments) do
      names[argument.name] = true
    end
  end
  if word and not names[word] then
    entry.text[1] = entry.text[1]:gsub("^%l", string.upper)
  end
end

function Model:add_module(entry)
  if self.modules[entry.name] then
    return self:fail(entry, "module %s is described twice", entry.name)
  end
  entry.functions, entry.classes = {}, {}
  self.modules[entry.name] = entry
  table.insert(self.list, entry)
end

function Model:add_class(entry)
  local module, short = entry.name:match("^(.*)%.([%w_]+)$")
  if self.classes[entry.name] then
    return self:fail(entry, "class %s is described twice", entry.name)
  end
  entry.module, entry.short = self.modules[module], short
  if not entry.module then
    return self:fail(entry, "class %s: there is no module %s", entry.name, tostring(module))
  end
  entry.functions, entry.constructors = {}, {}
  self.classes[entry.name] = entry
  table.insert(entry.module.classes, entry)
end

function Model:add_parent(class)
  if class.parent then
    local parent = self:find_class(class.parent, class.file)
    if not parent then
      return self:fail(class, "unknown class '%s'", class.parent)
    end
    class.parent = parent
  end
end

-- The lists of functions that a signature belongs in, and its owner.
function Model:place(entry, signature)
  local owner = signature.owner
  if not owner then
    local class = self:find_class(signature.name, entry.file)
    return class and class.constructors, class
  end
  local class = self:find_class(owner, entry.file) or self:find_module(owner)
  return class and class.functions, class
end

-- A function with several names is entered once for each owner.
function Model:add_function(entry)
  local entered = {}
  begin_sentence(entry)
  for _, signature in ipairs(entry.signatures) do
    local list, owner = self:place(entry, signature)
    if not list then
      self:fail(entry, "'%s' is neither a class nor a module", signature.owner or signature.name)
    elseif entered[list] then
      table.insert(entered[list].signatures, signature)
    else
      entered[list] = setmetatable({ owner = owner, signatures = { signature } },
                                   { __index = entry })
      table.insert(list, entered[list])
    end
  end
end

function Model:check_names(list, owner)
  local seen = {}
  for _, entry in ipairs(list) do
    for _, signature in ipairs(entry.signatures) do
      if seen[signature.name] then
        self:fail(entry, "%s of %s is described twice", signature.name, owner.name)
      end
      seen[signature.name] = true
    end
  end
end

-- How many classes are above a class.
local function depth(class)
  return class.parent and 1 + depth(class.parent) or 0
end

-- Those that others are made of come first.
local function sort_classes(module)
  table.sort(module.classes, function(a, b)
    if depth(a) ~= depth(b) then
      return depth(a) < depth(b)
    end
    return a.short < b.short
  end)
end

-- Functions stay in the order of the sources, those of the owner's own file first.
local function sort_functions(owner)
  local own, others = {}, {}
  for _, entry in ipairs(owner.functions) do
    table.insert(entry.file == owner.file and own or others, entry)
  end
  owner.functions = table.move(others, 1, #others, #own + 1, own)
end

local function parse_files(self, paths)
  local entries = { module = {}, class = {}, ["function"] = {} }
  for _, path in ipairs(paths) do
    for _, block in ipairs(blocks.read(path)) do
      local ok, entry = pcall(grammar.parse, block)
      if ok then
        table.insert(entries[entry.kind], entry)
      else
        table.insert(self.errors, entry)
      end
    end
  end
  return entries
end

-- The documentation in the files: `list` of modules by name, `modules` and `classes` by their
-- full names, and `errors`, a list of messages.
function model.read(paths)
  local self = setmetatable({ list = {}, modules = {}, classes = {}, errors = {} }, Model)
  local entries = parse_files(self, paths)
  for _, kind in ipairs { "module", "class", "function" } do
    for _, entry in ipairs(entries[kind]) do
      self["add_" .. kind](self, entry)
    end
  end
  for _, class in pairs(self.classes) do
    self:add_parent(class)
    self:check_names(class.functions, class)
    sort_functions(class)
  end
  for _, kind in ipairs { "module", "class", "function" } do
    for _, entry in ipairs(entries[kind]) do
      self:resolve_types(entry)
    end
  end
  for _, module in ipairs(self.list) do
    sort_functions(module)
    sort_classes(module)
  end
  table.sort(self.list, function(a, b)
    return a.name < b.name
  end)
  return self
end

-- The sources that have documentation, in the order of their names.
function model.sources()
  local list = {}
  local pipe = assert(io.popen("find vm stdlib -name '*.c' -o -name '*.lua'"))
  for path in pipe:lines() do
    table.insert(list, path)
  end
  pipe:close()
  table.sort(list)
  return list
end

return model
