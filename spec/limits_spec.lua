local moonlet = require "moonlet"
local support = require "support"

local run_script = support.run_script

-- What the scripts below begin with.
local PRELUDE = [[
local moonlet = require "moonlet"
local sleep, spawn = moonlet.sleep, moonlet.spawn
moonlet.set_error_handler(function() end)
]]

local function succeeds(code, opts)
  local run = run_script(PRELUDE .. code, opts)
  assert.equal("", run.stderr)
  assert.equal(0, run.status)
  return run.stdout
end

describe("endless recursion ends in Lua's error, not in a crash:", function()
  -- Each defines f(wait), which recurses without end and calls wait at every level.
  local recursions = {
    ["of Lua functions"] = {
      "stack overflow",
      "function f(wait) wait() return 1 + f(wait) end",
    },
    ["through string.gsub callbacks"] = {
      "stack overflow",
      "function f(wait) wait() return (('x'):gsub('x', function() return f(wait) end)) end",
    },
    ["through table.sort comparators"] = {
      "stack overflow",
      "function f(wait) wait() table.sort({ 1, 2 }, function() return f(wait) end) end",
    },
    ["through __index called by table.concat"] = {
      "stack overflow",
      [[function f(wait)
          wait()
          return table.concat(setmetatable({}, {
            __len = function() return 1 end,
            __index = function() return f(wait) end,
          }))
        end]],
    },
    ["through __tostring called by string.format"] = {
      "stack overflow",
      [[local t = setmetatable({}, {})
        function f(wait)
          getmetatable(t).__tostring = function() return f(wait) end
          wait()
          return ("%s"):format(t)
        end]],
    },
    ["through coroutines in coroutines"] = {
      "C stack overflow",
      "function f(wait) wait() return coroutine.wrap(f)(wait) end",
    },
    ["through load readers"] = {
      "overflow",
      [[function f(wait)
          wait()
          local chunk, err = load(function() return f(wait) end)
          return chunk or error(err, 0)
        end]],
    },
    ["through lpeg match-time captures"] = {
      "stack overflow",
      [[local lpeg = require "lpeg"
        local pattern
        function f(wait)
          pattern = pattern or lpeg.Cmt("a", function() return f(wait) end)
          wait()
          return pattern:match("a")
        end]],
    },
  }

  for title, case in pairs(recursions) do
    local message, code = table.unpack(case)

    it(title, function()
      local out = succeeds(code .. [[

        local function nothing() end
        local function report(g)
          print(g:dead(), g:successful(), tostring(g.exception):sub(-300))
        end
        local plain = spawn(f, nothing)
        plain:join()
        report(plain)
        local nested = spawn(function() return coroutine.wrap(f)(nothing) end)
        nested:join()
        report(nested)
        print(select(2, spawn(pcall, f, nothing):get()))
        local alive = spawn(function() sleep(0) return "alive" end)
        print(alive:get())
      ]])
      local _, count = out:gsub(message, "")
      assert.is_true(count >= 3, out)
      assert.matches("alive\n$", out)
      assert.not_matches("true\ttrue", out)
    end)

    it(title .. ", which block at every level", function()
      local out = succeeds(code .. [[

        local list = {}
        for i = 1, 3 do list[i] = spawn(f, sleep) end
        moonlet.joinall(list)
        for i = 1, 3 do
          print(list[i]:successful(), tostring(list[i].exception):sub(-300))
        end
        print(moonlet.stats().pinned)
      ]], { timeout = 20 })
      local _, count = out:gsub(message, "")
      assert.is_true(count >= 3, out)
      assert.matches("\n0\n$", out)
    end)
  end

  it("every greenlet can nest as many C calls, before and after waits, however deep main is",
     function()
    local out = succeeds [[
      local function depth(wait)
        local n = 0
        local function recurse()
          n = n + 1
          return (("x"):gsub("x", recurse))
        end
        pcall(recurse)
        wait()
        return n
      end
      local function nothing() end
      local plain = spawn(depth, nothing):get()
      local list = {}
      for i = 1, 10 do
        list[i] = spawn(function()
          local a = depth(nothing)
          local b
          table.sort({ 1, 2 }, function(x, y) sleep(0) return x < y end)
          b = depth(sleep)
          return a == plain and b == plain
        end)
      end
      local function deep(n)
        if n == 0 then
          moonlet.joinall(list, nil, true)
          return spawn(depth, sleep):get()
        end
        local result
        ;("x"):gsub("x", function() result = deep(n - 1) end)
        return result
      end
      print(plain > 150, deep(100) == plain)
      for i = 1, 10 do
        assert(list[i].value == true, "greenlet " .. i)
      end
    ]]
    assert.equal("true\ttrue\n", out)
  end)
end)

describe("very many greenlets:", function()
  it("100,000 parked at once", function()
    assert.equal("100000\t0\t100000\n", succeeds([[
      local gate = require "moonlet.event".Event()
      local list, count = {}, 0
      for i = 1, 100000 do
        list[i] = spawn(function()
          gate:wait()
          count = count + 1
        end)
      end
      sleep(0)
      local stats = moonlet.stats()
      gate:set()
      moonlet.joinall(list)
      print(stats.greenlets, stats.pinned, count)
    ]], { timeout = 30 }))
  end)

  -- (The sanitizer's shadow of each C stack takes 512 KB.)
  it("10,000 pinned at once", function()
    local count = support.sanitized and 1000 or 10000
    local counters = succeeds([[
      local gate = require "moonlet.event".Event()
      local list, count = {}, 0
      for i = 1, tonumber(arg[1]) do
        list[i] = spawn(function()
          table.sort({ 1, 2 }, function(a, b)
            gate:wait()
            return a < b
          end)
          count = count + 1
        end)
      end
      sleep(0)
      local stats = moonlet.stats()
      gate:set()
      moonlet.joinall(list)
      print(stats.pinned, count, moonlet.stats().pinned)
    ]], { timeout = 30, args = { count } })
    assert.equal(("%d\t%d\t0\n"):format(count, count), counters)
  end)

  it("100,000 one after another, a tenth of them killed, leave none alive", function()
    assert.equal("0\t0\t0\n", succeeds([[
      for i = 1, 1000 do
        local list = {}
        for j = 1, 100 do
          list[j] = spawn(sleep, j % 10 == 0 and 100 or 0)
        end
        sleep(0)
        for j = 10, 100, 10 do list[j]:kill(nil, 0) end
        moonlet.joinall(list)
      end
      local stats = moonlet.stats()
      print(stats.greenlets, stats.timers, stats.pinned)
    ]], { timeout = 30 }))
  end)

  it("10,000 timers started and cancelled leave none", function()
    local before = moonlet.stats().timers
    for _ = 1, 10000 do
      moonlet.Timeout.start_new(10):cancel()
    end
    assert.equal(before, moonlet.stats().timers)
  end)
end)

describe("the program ends", function()
  -- Greenlets in every state, which must not keep the program from ending nor run on; and a Timeout
  -- of as many seconds as they sleep: more than the program takes, unless it waits for them.
  local CROWD = PRELUDE .. [[
    local SECONDS = tonumber(arg[1])
    local event = require "moonlet.event"
    local gate = event.Event()
    local function goes_on() sleep(SECONDS) print("went on") end
    spawn(goes_on)
    spawn(gate.wait, gate)
    spawn(table.sort, { 1, 2 }, function() goes_on() end)
    spawn(coroutine.wrap(goes_on))
    local generator = coroutine.wrap(function() coroutine.yield() goes_on() end)
    generator()
    spawn(generator)
    spawn(string.gsub, "x", "x", coroutine.wrap(goes_on))
    sleep(0)
    spawn(goes_on)
    local unstarted = moonlet.Greenlet(goes_on)
    local timeout = moonlet.Timeout.start_new(SECONDS)
    local function nested(f)
      return function()
        table.sort({ 1, 2 }, function() sleep(0) coroutine.wrap(f)() end)
      end
    end
  ]]

  local endings = {
    ["when main ends"] = { 0, [[print("bye")]] },
    ["when main ends by return"] = { 0, [[print("bye") do return end]] },
    ["by an error of main"] = { 1, [[print("bye") error("main's own")]], "main's own" },
    ["by an error of main inside a C callout"] =
      { 1, [[print("bye") table.sort({ 1, 2 }, function() sleep(0) error("main's own") end)]],
        "main's own" },
    ["by os.exit in main"] = { 3, [[print("bye") os.exit(3)]] },
    ["by os.exit(true)"] = { 0, [[print("bye") os.exit(true)]] },
    ["by os.exit(false)"] = { 1, [[print("bye") os.exit(false)]] },
    ["by os.exit(n, true) in main"] = { 3, [[print("bye") os.exit(3, true)]] },
    ["by os.exit in a greenlet"] = { 4, [[spawn(function() print("bye") os.exit(4) end):join()]] },
    ["by os.exit(n, true) in a greenlet"] =
      { 4, [[spawn(function() sleep(0) print("bye") os.exit(4, true) end):join()]] },
    ["by os.exit in a pinned greenlet"] =
      { 5, [[spawn(nested(function() print("bye") os.exit(5) end)):join()]] },
    ["by os.exit(n, true) in a pinned greenlet"] =
      { 5, [[spawn(nested(function() print("bye") os.exit(5, true) end)):join()]] },
    ["by os.exit(n, true) in main inside a C callout"] =
      { 6, [[nested(function() print("bye") os.exit(6, true) end)()]] },
    ["by a Timeout in main"] = { 1, [[print("bye") sleep(10)]], "0.05 seconds", 0.05 },
    ["by LoopExit"] =
      { 1, [[timeout:cancel() moonlet.wait() print("bye") gate:wait()]], "block forever", 0.05 },
  }

  for title, case in pairs(endings) do
    it(title .. ", with its status", function()
      local status, code, message, seconds = table.unpack(case)
      local run = run_script(CROWD .. code, { args = { seconds or 60 } })
      assert.equal(status, run.status, run.stderr)
      assert.is_nil(run.signal)
      if title == "by LoopExit" then
        assert.matches("bye\n$", run.stdout)
      elseif title ~= "by a Timeout in main" then
        assert.equal("bye\n", run.stdout)
      end
      if message then
        assert.matches(message, run.stderr)
      else
        assert.equal("", run.stderr)
      end
    end)
  end

  it("with finalizers run once each, those that try to block included", function()
    local run = run_script(CROWD .. [[
      keep = setmetatable({}, { __gc = function()
        print("finalized", pcall(sleep, 0.01))
      end })
      print("bye")
    ]], { args = { 60 } })
    assert.equal(0, run.status, run.stderr)
    assert.matches("^bye\nfinalized\tfalse\t", run.stdout)
    assert.not_matches("went on", run.stdout)
  end)

  it("without waiting for the greenlets", function()
    local run = run_script(PRELUDE .. [[
      spawn(sleep, 100)
      spawn(table.sort, { 1, 2 }, function() sleep(100) end)
      sleep(0)
    ]])
    assert.equal(0, run.status)
  end)
end)
