local event = require "moonlet.event"
local moonlet = require "moonlet"
local support = require "support"

local sleep, spawn, trace = moonlet.sleep, moonlet.spawn, support.trace

-- A greenlet that blocks on `gate` in the given way; returns it and its Lua thread.
local function blocked_greenlet(gate, block)
  local thread
  local g = spawn(function()
    thread = coroutine.running()
    block(gate)
    return "own end"
  end)
  sleep(0)
  return g, thread
end

local function lightly(gate)
  gate:wait()
end

local function pinned(gate)
  table.sort({ 1, 2 }, function(a, b)
    gate:wait()
    return a < b
  end)
end

describe("a greenlet is a coroutine to Lua:", function()
  it("running gives a thread of its own that is not the main one", function()
    local thread, is_main
    spawn(function()
      thread, is_main = coroutine.running()
    end):join()
    assert.equal("thread", type(thread))
    assert.is_false(is_main)
    assert.not_equal(coroutine.running(), thread)
  end)

  it("running gives the same thread before and after a wait", function()
    local before, after
    spawn(function()
      before = coroutine.running()
      sleep(0)
      after = coroutine.running()
    end):join()
    assert.equal(before, after)
  end)

  it("the thread of one that has ended is dead", function()
    local thread
    spawn(function()
      thread = coroutine.running()
    end):join()
    assert.equal("dead", coroutine.status(thread))
    assert.is_false((coroutine.resume(thread)))
  end)

  it("a thread that someone kept is never given to another greenlet", function()
    local kept, reused = {}, nil
    for _ = 1, 50 do
      spawn(function()
        local thread = coroutine.running()
        reused = reused or kept[thread]
        kept[thread] = true
      end):join()
    end
    assert.is_nil(reused)
  end)

  it("main stays the main thread", function()
    local _, is_main = coroutine.running()
    assert.is_true(is_main)
    sleep(0)
    assert.is_true(select(2, coroutine.running()))
  end)

  it("debug.traceback of a blocked one shows where it blocks", function()
    local gate = event.Event()
    for _, block in ipairs { lightly, pinned } do
      local g, thread = blocked_greenlet(gate, block)
      assert.matches("coroutine_spec%.lua:%d+: in ", debug.traceback(thread))
      g:kill()
    end
  end)
end)

describe("a blocked greenlet", function()
  for how, block in pairs { lightly = lightly, ["in a C callout"] = pinned } do
    it("that waits " .. how .. " cannot be resumed by others", function()
      local gate = event.Event()
      local g, thread = blocked_greenlet(gate, block)
      local ok, message = coroutine.resume(thread, "intruder")
      assert.is_false(ok)
      assert.is_string(message)
      support.turns()
      assert.is_false(g:ready())
      gate:set()
      assert.equal("own end", g:get())
    end)

    it("that waits " .. how .. " cannot be closed by others", function()
      local gate = event.Event()
      local g, thread = blocked_greenlet(gate, block)
      local ok, closed = pcall(coroutine.close, thread)
      assert.is_false(ok and closed)
      support.turns()
      assert.is_false(g:ready())
      gate:set()
      assert.equal("own end", g:get())
    end)

    it("that waits " .. how .. " is neither dead nor running", function()
      local gate = event.Event()
      local g, thread = blocked_greenlet(gate, block)
      local status = coroutine.status(thread)
      assert.is_true(status == "suspended" or status == "normal", status)
      gate:set()
      g:join()
    end)
  end

  it("that is ready again but has not gone on yet cannot be resumed either", function()
    local ran, thread = 0, nil
    spawn(function()
      ran = ran + 1
      thread = coroutine.running()
      sleep(0)
      ran = ran + 1
    end)
    sleep(0)
    assert.is_false((coroutine.resume(thread)))
    support.turns()
    assert.equal(2, ran)
  end)
end)

describe("coroutine.yield", function()
  it("in a greenlet's body, to nobody, is an error of the greenlet", function()
    local errors = support.uncaught()
    local seen = trace()
    local g = spawn(function()
      local _ <close> = support.closing(seen, "closed")
      coroutine.yield("stray")
      seen("never")
    end)
    g:join()
    assert.is_false(g:successful())
    assert.matches("yield", tostring(g.exception))
    assert.equal("closed", tostring(seen))
    assert.equal(1, #errors)
  end)

  it("in main stays an error", function()
    assert.matches("outside a coroutine", support.error_of(coroutine.yield))
  end)
end)

describe("a user's coroutine", function()
  it("keeps its own yields and resumes while it waits in between", function()
    local co = coroutine.create(function(a)
      sleep(0)
      local b = coroutine.yield(a, "one")
      sleep(0)
      local c = coroutine.yield(b, "two")
      sleep(0)
      return c, "three"
    end)
    assert.same({ true, 1, "one" }, { coroutine.resume(co, 1) })
    assert.equal("suspended", coroutine.status(co))
    assert.same({ true, 2, "two" }, { coroutine.resume(co, 2) })
    assert.same({ true, 3, "three" }, { coroutine.resume(co, 3) })
    assert.equal("dead", coroutine.status(co))
  end)

  it("may be begun in one greenlet and continued in others", function()
    local generate = coroutine.wrap(function()
      for i = 1, 4 do
        sleep(0)
        coroutine.yield(i)
      end
    end)
    local seen = trace()
    for _ = 1, 4 do
      spawn(function()
        seen(generate())
      end):join()
    end
    assert.equal("1 2 3 4", tostring(seen))
  end)

  it("that waits in one greenlet cannot be resumed by another meanwhile", function()
    local co = coroutine.create(function()
      sleep(0.005)
      return "v"
    end)
    local results
    local g = spawn(function()
      results = { coroutine.resume(co) }
    end)
    sleep(0)
    assert.equal("normal", coroutine.status(co))
    assert.same({ false, "cannot resume non-suspended coroutine" }, { coroutine.resume(co) })
    assert.has_error(function()
      coroutine.close(co)
    end)
    g:join()
    assert.same({ true, "v" }, results)
  end)

  it("left suspended when its greenlet ends can be closed later", function()
    local seen, co = trace(), nil
    spawn(function()
      co = coroutine.create(function()
        local _ <close> = support.closing(seen, "closed")
        sleep(0)
        coroutine.yield()
      end)
      coroutine.resume(co)
    end):join()
    assert.equal("suspended", coroutine.status(co))
    assert.is_true(coroutine.close(co))
    assert.equal("closed", tostring(seen))
  end)

  it("can kill its greenlet", function()
    local g = spawn(function()
      coroutine.wrap(function()
        moonlet.getcurrent():kill()
      end)()
      return "never"
    end)
    g:join()
    assert.is_true(g.value:is(moonlet.GreenletExit))
  end)

  it("in which a greenlet spawns and joins works as the body does", function()
    local generate = coroutine.wrap(function()
      for i = 1, 3 do
        coroutine.yield((spawn(function()
          sleep(0)
          return i * i
        end):get()))
      end
    end)
    assert.equal("1 4 9", table.concat({ generate(), generate(), generate() }, " "))
  end)
end)

describe("a hook", function()
  it("set in a greenlet is gone with it", function()
    for _ = 1, 5 do
      spawn(debug.sethook, function() end, "", 1000):join()
    end
    for _ = 1, 5 do
      assert.is_nil((spawn(debug.gethook):get()))
    end
  end)

  it("may block at every third call and return", function()
    local calls = 0
    local result = spawn(function()
      local function fib(n)
        return n < 2 and n or fib(n - 1) + fib(n - 2)
      end
      debug.sethook(function()
        calls = calls + 1
        if calls % 3 == 0 then
          sleep(0)
        end
      end, "cr")
      local value = fib(8)
      debug.sethook()
      return value
    end):get()
    assert.equal(21, result)
    assert.is_true(calls > 60)
  end)
end)

describe("a thread used again", function()
  it("starts clean: no arguments, locals or close variables of the last one", function()
    local seen, first_depth = trace(), nil
    for i = 1, 20 do
      local n, depth
      spawn(function(...)
        n = select("#", ...)
        depth = 0
        while debug.getinfo(depth + 1, "l") do
          depth = depth + 1
        end
        local _ <close> = support.closing(seen, i)
        if i % 3 == 0 then
          sleep(0)
        end
      end, table.unpack({}, 1, i % 5)):join()
      assert.equal(i % 5, n)
      first_depth = first_depth or depth
      assert.equal(first_depth, depth)
    end
    assert.equal(20, #seen)
  end)

  it("after errors and kills is as good as a new one", function()
    support.uncaught()
    for i = 1, 30 do
      local bad = spawn(function()
        if i % 2 == 0 then
          sleep(0)
        end
        error("problem", 0)
      end)
      local killed = spawn(sleep, 10)
      sleep(0)
      killed:kill()
      bad:join()
      assert.equal(i, spawn(function(x)
        local ok, err = pcall(error, "inner", 0)
        assert(not ok and err == "inner")
        sleep(0)
        return x
      end, i):get())
    end
  end)
end)

describe("require", function()
  local function module(name, loader)
    package.preload[name] = loader
    return setmetatable({}, {
      __close = function()
        package.preload[name], package.loaded[name] = nil, nil
      end,
    })
  end

  it("of one module by several greenlets at once runs its chunk once", function()
    local runs, list = 0, {}
    local _ <close> = module("spec.slow", function()
      runs = runs + 1
      sleep(0.005)
      return { "module" }
    end)
    for i = 1, 5 do
      list[i] = spawn(require, "spec.slow")
    end
    moonlet.joinall(list, nil, true)
    assert.equal(1, runs)
    for i = 2, 5 do
      assert.equal(list[1].value, list[i].value)
    end
  end)

  it("of different modules does not wait for one another", function()
    local gate = event.Event()
    local _ <close> = module("spec.waiting", function()
      gate:wait()
    end)
    local _ <close> = module("spec.quick", function()
      return "quick"
    end)
    local waiting = spawn(require, "spec.waiting")
    sleep(0)
    assert.equal("quick", (spawn(require, "spec.quick"):get()))
    gate:set()
    waiting:join()
  end)

  it("that failed is tried anew by those that waited for it", function()
    support.uncaught()
    local runs = 0
    local _ <close> = module("spec.flaky", function()
      runs = runs + 1
      sleep(0.001)
      if runs == 1 then
        error("first time", 0)
      end
      return "loaded"
    end)
    local a, b = spawn(require, "spec.flaky"), spawn(require, "spec.flaky")
    moonlet.joinall({ a, b })
    assert.is_false(a:successful())
    assert.equal("loaded", b.value)
    assert.equal(2, runs)
  end)

  it("that is killed lets the others load the module", function()
    local _ <close> = module("spec.killed", function()
      sleep(0.005)
      return "loaded"
    end)
    local a, b = spawn(require, "spec.killed"), spawn(require, "spec.killed")
    sleep(0)
    a:kill()
    assert.equal("loaded", (b:get()))
  end)

  it("of two modules that require each other, in two greenlets, is an error, not a hang", function()
    support.uncaught()
    local _ <close> = module("spec.one", function()
      sleep(0.001)
      require "spec.two"
    end)
    local _ <close> = module("spec.two", function()
      sleep(0.001)
      require "spec.one"
    end)
    local list = { spawn(require, "spec.one"), spawn(require, "spec.two") }
    assert.equal(2, #moonlet.joinall(list, 5))
    assert.is_false(list[1]:successful() and list[2]:successful())
  end)
end)
