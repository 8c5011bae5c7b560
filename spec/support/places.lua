-- The places of a Lua program in which a wait may stand. Each is a function that calls `wait` from
-- such a place, lets its errors through, and checks that the operation around it went right.

local lpeg = require "lpeg"

local places = {}

local function add(name, run)
  places[#places + 1] = { name = name, run = run }
end

-- wait on the first call, nothing on later ones.
local function once(wait)
  local done = false
  return function()
    if not done then
      done = true
      wait()
    end
  end
end

local function object(metatable)
  return setmetatable({}, metatable)
end

add("a function's body", function(wait)
  wait()
end)

add("a table.sort comparator", function(wait)
  local list, first = { 3, 1, 2 }, once(wait)
  table.sort(list, function(a, b)
    first()
    return a < b
  end)
  assert(table.concat(list) == "123")
end)

add("a string.gsub callback", function(wait)
  local text = ("abc"):gsub("b", function(c)
    wait()
    return c:upper()
  end)
  assert(text == "aBc")
end)

add("__index", function(wait)
  local t = object { __index = function(_, key)
    wait()
    return key .. "!"
  end }
  assert(t.x == "x!")
end)

add("__index called by table.concat", function(wait)
  local first = once(wait)
  local t = object { __len = function() return 3 end, __index = function(_, i)
    first()
    return i
  end }
  assert(table.concat(t, ",") == "1,2,3")
end)

add("__newindex called by table.insert", function(wait)
  local got
  local t = object { __newindex = function(_, i, v)
    wait()
    got = i .. v
  end }
  table.insert(t, "v")
  assert(got == "1v")
end)

add("__newindex", function(wait)
  local got
  local t = object { __newindex = function(_, _, v)
    wait()
    got = v
  end }
  t.x = "v"
  assert(got == "v")
end)

add("__call", function(wait)
  local t = object { __call = function(_, x)
    wait()
    return x
  end }
  assert(t("v") == "v")
end)

add("__lt", function(wait)
  local mt = { __lt = function()
    wait()
    return true
  end }
  assert(object(mt) < object(mt))
end)

add("__le and __eq", function(wait)
  local first = once(wait)
  local mt = { __le = function()
    first()
    return true
  end, __eq = function()
    first()
    return true
  end }
  assert(object(mt) == object(mt))
  assert(object(mt) <= object(mt))
end)

add("__concat", function(wait)
  local t = object { __concat = function(a, _)
    wait()
    return a .. "!"
  end }
  assert("x" .. t == "x!")
end)

add("__add and __unm", function(wait)
  local first = once(wait)
  local t = object { __add = function(_, n)
    first()
    return n
  end, __unm = function()
    first()
    return 5
  end }
  assert(-t + (t + 2) == 7)
end)

add("__len", function(wait)
  local t = object { __len = function()
    wait()
    return 7
  end }
  assert(#t == 7)
end)

add("__close", function(wait)
  local after
  do
    local _ <close> = object { __close = function()
      wait()
      after = true
    end }
  end
  assert(after)
end)

add("__close while an error unwinds", function(wait)
  local ok, err = pcall(function()
    local _ <close> = object { __close = function()
      wait()
    end }
    error("unwinding", 0)
  end)
  assert(not ok)
  if err ~= "unwinding" then
    error(err, 0)
  end
end)

add("__close run by coroutine.close", function(wait)
  local co = coroutine.create(function()
    local _ <close> = object { __close = wait }
    coroutine.yield()
  end)
  coroutine.resume(co)
  local ok, err = coroutine.close(co)
  if not ok then
    error(err, 0)
  end
end)

add("__tostring called by string.format", function(wait)
  local first = once(wait)
  local t = object { __tostring = function()
    first()
    return "text"
  end }
  assert(("%s!"):format(t) == "text!")
  assert(tostring(t) == "text")
end)

add("__pairs", function(wait)
  local count = 0
  for _ in pairs(object { __pairs = function()
    wait()
    return next, { 1, 2, 3 }, nil
  end }) do
    count = count + 1
  end
  assert(count == 3)
end)

add("a for iterator", function(wait)
  local sum, first = 0, once(wait)
  for i in function(_, i)
    first()
    return i < 3 and i + 1 or nil
  end, nil, 0 do
    sum = sum + i
  end
  assert(sum == 6)
end)

add("pcall", function(wait)
  local ok, err = pcall(function()
    wait()
    return "v"
  end)
  if not ok then
    error(err, 0)
  end
  assert(err == "v")
end)

add("pcall around a failing function", function(wait)
  local marker = {}
  local ok, err = pcall(function()
    wait()
    error(marker)
  end)
  assert(not ok)
  if err ~= marker then
    error(err, 0)
  end
end)

add("xpcall", function(wait)
  local ok, err = xpcall(function(x)
    wait()
    return x
  end, function(e)
    return e
  end, "v")
  if not ok then
    error(err, 0)
  end
  assert(err == "v")
end)

add("an xpcall message handler", function(wait)
  local first = once(wait)
  local _, err = xpcall(error, function(e)
    first()
    return e
  end, "handled", 0)
  if err ~= "handled" then
    error(err, 0)
  end
end)

add("a load reader", function(wait)
  local pieces, first = { "return ", "'v'" }, once(wait)
  local f, err = load(function()
    first()
    return table.remove(pieces, 1)
  end)
  if not f then
    error(err, 0)
  end
  assert(f() == "v")
end)

local modules = 0

add("a require'd chunk", function(wait)
  modules = modules + 1
  local name = "spec.place" .. modules
  package.preload[name] = function()
    wait()
    return "module"
  end
  local _ <close> = object { __close = function()
    package.preload[name], package.loaded[name] = nil, nil
  end }
  assert(require(name) == "module")
end)

add("an lpeg match-time capture", function(wait)
  local pattern = lpeg.C(lpeg.Cmt(lpeg.P "a", function()
    wait()
    return true
  end) * "b")
  assert(pattern:match("ab") == "ab")
end)

add("an lpeg function capture", function(wait)
  local pattern = lpeg.C("a") / function(s)
    wait()
    return s:upper()
  end
  assert(pattern:match("a") == "A")
end)

add("a coroutine.wrap generator", function(wait)
  local generate = coroutine.wrap(function(a)
    local b = coroutine.yield(a + 1)
    wait()
    local c = coroutine.yield(b + 1)
    return c + 1
  end)
  assert(generate(1) == 2)
  assert(generate(10) == 11)
  assert(generate(100) == 101)
end)

add("a coroutine.resume'd coroutine", function(wait)
  local co = coroutine.create(function(a)
    wait()
    coroutine.yield(a)
  end)
  local ok, err = coroutine.resume(co, "v")
  if not ok then
    coroutine.close(co)
    error(err, 0)
  end
  assert(err == "v" and coroutine.status(co) == "suspended")
end)

add("generators nested three deep that also yield values", function(wait)
  local function nested(depth)
    return coroutine.wrap(function()
      if depth == 1 then
        for i = 1, 3 do
          if i == 2 then
            wait()
          end
          coroutine.yield(i)
        end
      else
        for i in nested(depth - 1) do
          coroutine.yield(i * 10)
        end
      end
    end)
  end
  local seen = {}
  for i in nested(3) do
    seen[#seen + 1] = i
  end
  assert(table.concat(seen, " ") == "100 200 300")
end)

add("a debug hook", function(wait)
  debug.sethook(function()
    debug.sethook()
    wait()
  end, "", 1)
  local sum = 0
  for i = 1, 10 do
    sum = sum + i
  end
  debug.sethook()
  assert(sum == 55)
end)

add("a comparator in a gsub callback in an __index in a generator in pcall", function(wait)
  local ok, err = pcall(coroutine.wrap(function()
    local t = object { __index = function(_, key)
      return (key:gsub(".", function(c)
        local list, first = { 2, 1 }, once(wait)
        table.sort(list, function(a, b)
          first()
          return a < b
        end)
        return c .. list[1]
      end))
    end }
    return t.x
  end))
  if not ok then
    error(err, 0)
  end
  assert(err == "x1")
end)

return places
