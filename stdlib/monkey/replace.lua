-- Puts functions in the place of others: in modules that are loaded, and in those that will be.

local taken = require "moonlet.monkey.taken"

local replace = {}

local ours = setmetatable({}, { __mode = "k" }) -- replacements: none is replaced itself

-- ---- modules that are loaded ----

-- Puts what make(old) returns in the place of module[field], if there is something that is not
-- ours. Returns what was there.
local function put(module, field, make)
  local old = module[field]
  if old == nil or ours[old] then
    return nil
  end
  local new = make(old)
  ours[new] = true
  module[field] = new
  return new ~= old and old or nil
end

-- What was taken out of a module no longer works as it should; of data this does not matter.
local WATCHED = { ["function"] = true, userdata = true }

-- Replaces fields of a module: makers[field] makes the new value from the old one. Who has taken
-- an old one already will be told of, unless the old ones are harmless.
function replace.now(module, name, makers, harmless)
  for field, make in pairs(makers) do
    local old = put(module, field, make)
    if WATCHED[type(old)] and not harmless then
      taken.watch(old, module[field], name .. "." .. field)
    end
  end
end

-- A maker for what needs nothing of the old value.
function replace.by(new)
  return function()
    return new
  end
end

-- Those makers for the named fields, out of another module.
function replace.from(other, fields)
  local makers = {}
  for _, field in ipairs(fields) do
    makers[field] = replace.by(other[field])
  end
  return makers
end

-- ---- modules that get loaded ----

-- Lists of makers, by the names of the modules that are waited for.
local awaited = {}

local search

-- What the searchers after ours find.
local function find_loader(name)
  for _, searcher in ipairs(package.searchers) do
    local loader, data
    if searcher ~= search then
      loader, data = searcher(name)
    end
    if type(loader) == "function" then
      return loader, data
    end
  end
end

-- A searcher that finds what others find, with a loader that also patches.
function search(name)
  local loader, data
  if awaited[name] then
    loader, data = find_loader(name)
  end
  if not loader then
    return nil
  end
  local function load_patched(...)
    local module = loader(...)
    if module == nil then
      module = package.loaded[name]
    end
    for _, makers in ipairs(type(module) == "table" and awaited[name] or {}) do
      for field, make in pairs(makers) do
        put(module, field, make)
      end
    end
    return module
  end
  return load_patched, data
end

table.insert(package.searchers, 1, search)

-- ---- both ----

-- Replaces fields of a module that is loaded, or as soon as it is.
function replace.fields(name, makers, harmless)
  local module = package.loaded[name]
  if type(module) == "table" then
    replace.now(module, name, makers, harmless)
  end
  awaited[name] = awaited[name] or {}
  table.insert(awaited[name], makers)
end

-- From now on require(name) gives what load() returns.
function replace.module(name, load)
  package.preload[name] = load
  if package.loaded[name] then
    package.loaded[name] = load()
  end
end

return replace
