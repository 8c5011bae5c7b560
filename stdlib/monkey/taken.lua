-- Finds who has taken functions that were replaced since, and warns of it.

local taken = {}

local DEPTH = 6 -- tables and functions between a module and what it has taken

local watched = {} -- old function or object -> its name
local entitled = {} -- what has taken its place, and may know it

-- ---- searching ----

local function is_searched(value)
  return type(value) == "table" or type(value) == "function"
end

-- Calls visit(value) for what an object holds: fields and metatable, or upvalues.
local function each_part(object, visit)
  if type(object) == "table" then
    for _, value in next, object do
      visit(value)
    end
    visit(debug.getmetatable(object))
  else
    local i = 1
    local name, value = debug.getupvalue(object, i)
    while name do
      visit(value)
      i = i + 1
      name, value = debug.getupvalue(object, i)
    end
  end
end

-- Calls found(name) for everything watched that can be reached from the object, the nearest first.
-- What is in `seen` is not entered.
local function search(object, seen, found)
  local level = { object }
  for _ = 1, DEPTH do
    local below = {}
    local function visit(value)
      if value == nil then
        return
      elseif watched[value] then
        found(watched[value])
      elseif is_searched(value) and not seen[value] then
        seen[value] = true
        below[#below + 1] = value
      end
    end
    for _, reached in ipairs(level) do
      each_part(reached, visit)
    end
    level = below
  end
end

-- ---- holders ----

local function module_names()
  local names = {}
  for name in pairs(package.loaded) do
    -- Our own modules know the old functions, and `package` all modules.
    if type(name) == "string" and name ~= "package" and not name:find("^moonlet%f[.%z]") then
      names[#names + 1] = name
    end
  end
  table.sort(names)
  return names
end

-- Modules are searched each by itself.
local function search_modules(seen, found)
  for _, module in pairs(package.loaded) do
    seen[module] = true
  end
  for _, name in ipairs(module_names()) do
    local module = package.loaded[name]
    local holder = name == "_G" and "a global" or ("module '%s'"):format(name)
    local function report(what)
      found(holder, what)
    end
    if watched[module] then
      report(watched[module])
    elseif is_searched(module) then
      search(module, seen, report)
    end
  end
end

local OWN = debug.getinfo(1, "S").source:match("^(.*)taken%.lua$") or ""

local function is_own(source)
  return source:sub(1, #OWN) == OWN or source == OWN:sub(1, -2) .. ".lua"
end

local function locals_of(level)
  local values, i = {}, 1
  local name, value = debug.getlocal(level + 1, i)
  while name do
    values[i] = value
    i = i + 1
    name, value = debug.getlocal(level + 1, i)
  end
  return values
end

-- Functions that are running, from the one that patches to the main chunk: locals and upvalues.
local function search_stack(seen, found)
  local level = 1
  local info = debug.getinfo(level, "Sf")
  while info do
    if info.what ~= "C" and not is_own(info.source) then
      search({ locals_of(level), info.func }, seen, function(what)
        found(info.short_src, what)
      end)
    end
    level = level + 1
    info = debug.getinfo(level, "Sf")
  end
end

-- ---- the interface ----

-- From now on the old one is looked for; the new one may have it.
function taken.watch(old, new, name)
  watched[old] = name
  entitled[new] = true
end

-- Warns of everyone who has taken what is watched, once.
function taken.warn()
  if next(watched) == nil then
    return
  end
  local seen, told = entitled, {}
  seen[_G], seen[package.loaded], seen[package.preload] = true, true, true
  local function found(holder, what)
    local line = ("moonlet.monkey: %s has taken '%s' already; require moonlet.monkey and patch " ..
                  "first\n"):format(holder, what)
    if not told[line] then
      told[line] = true
      io.stderr:write(line)
    end
  end
  search_modules(seen, found)
  search_stack(seen, found)
  watched, entitled = {}, {}
end

return taken
