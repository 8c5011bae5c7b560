local event = require "moonlet.event"
local moonlet = require "moonlet"
local support = require "support"
local testing = require "moonlet.testing"

local clock, spin, trace = support.clock, support.spin, support.trace
local sleep, spawn, spawn_later = moonlet.sleep, moonlet.spawn, moonlet.spawn_later

describe("spawn", function()
  it("does not start the greenlet before the spawner blocks", function()
    local seen = trace()
    local g = spawn(seen, "greenlet")
    seen("main")
    g:join()
    assert.equal("main greenlet", tostring(seen))
  end)

  it("starts greenlets in the order in which they were spawned", function()
    local seen = trace()
    for i = 1, 5 do
      spawn(seen, i)
    end
    sleep(0)
    assert.equal("1 2 3 4 5", tostring(seen))
  end)

  it("passes all arguments, nils too", function()
    local n, a, b, c
    spawn(function(...)
      n = select("#", ...)
      a, b, c = ...
    end, nil, "two", nil):join()
    assert.same({ 3, nil, "two", nil }, { n, a, b, c })
  end)

  it("accepts anything callable", function()
    local callable = setmetatable({}, {
      __call = function(_, x)
        return x + 1
      end,
    })
    assert.equal(3, spawn(callable, 2):get())
  end)

  it("returns a Greenlet", function()
    local g = spawn(sleep)
    assert.is_true(g:is(moonlet.Greenlet))
    g:join()
  end)

  it("schedules nothing when its argument is wrong", function()
    local before = moonlet.stats()
    assert.has_error(function()
      spawn(5)
    end)
    assert.has_error(function()
      spawn_later(0.01)
    end)
    local after = moonlet.stats()
    assert.equal(before.ready, after.ready)
    assert.equal(before.timers, after.timers)
    assert.equal(before.greenlets, after.greenlets)
  end)
end)

describe("the run queue", function()
  it("lets nothing else run while a greenlet does not block", function()
    local seen = trace()
    local other = spawn(seen, "greenlet")
    local later = spawn_later(0.001, seen, "timer")
    local timeout = moonlet.Timeout.start_new(0.001)
    spin(0.02)
    assert.equal("", tostring(seen))
    timeout:cancel()
    moonlet.joinall({ other, later })
    assert.equal("greenlet timer", tostring(seen))
  end)

  it("resumes main before a greenlet spawned while main slept", function()
    local seen = trace()
    spawn(function()
      seen("outer")
      spawn(seen, "inner")
    end)
    sleep(0)
    seen("main")
    sleep(0)
    assert.equal("outer main inner", tostring(seen))
  end)

  it("runs what a link queues after those that were queued before it", function()
    local seen = trace()
    local g = spawn(seen, "greenlet")
    g:link(function()
      seen("link")
    end)
    sleep(0)
    seen("main")
    support.turns()
    assert.equal("greenlet main link", tostring(seen))
  end)

  it("alternates greenlets that yield by sleep(0) in their start order", function()
    local seen, list = trace(), {}
    for _, name in ipairs { "a", "b", "c" } do
      list[#list + 1] = spawn(function()
        for i = 1, 3 do
          seen(name .. i)
          sleep(0)
        end
      end)
    end
    moonlet.joinall(list)
    assert.equal("a1 b1 c1 a2 b2 c2 a3 b3 c3", tostring(seen))
  end)

  it("runs the same program in the same order every time", function()
    local function program()
      local seen, gate = trace(), event.Event()
      local list = {}
      for i = 1, 20 do
        list[i] = spawn(function()
          sleep(i % 3 == 0 and 0.001 or 0)
          seen("slept" .. i)
          gate:wait()
          seen("woke" .. i)
          if i % 2 == 0 then
            sleep(0)
            seen("again" .. i)
          end
        end)
      end
      sleep(0.01)
      gate:set()
      moonlet.joinall(list)
      return tostring(seen)
    end
    local first = testing.virtual_clock(program)
    assert.equal(first, testing.virtual_clock(program))
    assert.equal(first, testing.virtual_clock(program))
  end)

  it("runs the greenlets behind one that fails", function()
    local errors, seen = support.uncaught(), trace()
    spawn(error, "on purpose")
    spawn(seen, "behind")
    sleep(0)
    assert.equal("behind", tostring(seen))
    assert.equal(1, #errors)
  end)
end)

describe("calls that need not wait do not let others run:", function()
  local lock = require "moonlet.lock"
  local queue = require "moonlet.queue"

  local cases = {
    ["Event:wait when it is set"] = function()
      local e = event.Event()
      e:set()
      return function()
        assert.is_true(e:wait())
      end
    end,
    ["Queue:get with an item there"] = function()
      local q = queue.Queue()
      q:put(1)
      return function()
        assert.equal(1, q:get())
      end
    end,
    ["Queue:put with room"] = function()
      local q = queue.Queue(1)
      return function()
        assert.is_true(q:put(1))
      end
    end,
    ["Semaphore:acquire when it is free"] = function()
      local s = lock.Semaphore(1)
      return function()
        assert.is_true(s:acquire())
      end
    end,
    ["AsyncResult:get when it is set"] = function()
      local r = event.AsyncResult()
      r:set(1)
      return function()
        assert.equal(1, r:get())
      end
    end,
    ["Greenlet:join and :get after its end"] = function()
      local g = spawn(function()
        return 1
      end)
      g:join()
      return function()
        assert.is_true(g:join())
        assert.equal(1, g:get())
      end
    end,
    ["joinall and wait with all ready"] = function()
      local g = spawn(sleep)
      g:join()
      return function()
        assert.same({ g }, moonlet.joinall({ g }))
        assert.same({ g }, moonlet.wait({ g }))
      end
    end,
    ["join, get and wait with a timeout of 0 on what is not ready"] = function()
      local e, g = event.Event(), spawn_later(0.01, sleep)
      return function()
        assert.is_false(e:wait(0))
        assert.is_false(g:join(0))
        assert.is_nil((g:get(0)))
        assert.same({}, moonlet.wait({ e }, -1))
        g:kill(nil, 0)
      end
    end,
  }

  for title, prepare in pairs(cases) do
    it(title, function()
      local call, seen = prepare(), trace()
      local other = spawn(seen, "other")
      call()
      assert.equal("", tostring(seen))
      other:join()
    end)
  end
end)

describe("sleep", function()
  it("of 0, of nothing or of a negative time lets others run and uses no timer", function()
    for _, argument in ipairs { { 0 }, { n = 0 }, { -5 } } do
      local before = moonlet.stats().timers
      local timers
      spawn(function()
        timers = moonlet.stats().timers
      end)
      sleep(table.unpack(argument))
      assert.equal(before, timers)
    end
  end)

  it("of a short time ends after everything that was queued before", function()
    local seen = trace()
    spawn(function()
      spin(0.001)
      seen("a")
    end)
    spawn(seen, "b")
    sleep(0.0001)
    seen("main")
    assert.equal("a b main", tostring(seen))
  end)

  it("lasts at least as long as asked", function()
    local start = clock()
    sleep(0.02)
    assert.is_true(clock() - start >= 0.0195)
  end)

  it("is registered as one timer while it lasts", function()
    local before = moonlet.stats().timers
    local g = spawn(sleep, 0.01)
    sleep(0)
    assert.equal(before + 1, moonlet.stats().timers)
    g:join()
    assert.equal(before, moonlet.stats().timers)
  end)

  it("wakes sleepers by due time, equal ones in the order in which they began", function()
    local seen, list = trace(), {}
    for i, seconds in ipairs { 0.09, 0.03, 0.06, 0.03, 0.09, 0.03 } do
      list[i] = spawn(function()
        sleep(seconds)
        seen(i)
      end)
    end
    testing.virtual_clock(moonlet.joinall, list)
    assert.equal("2 4 6 3 1 5", tostring(seen))
  end)

  it("ends in time though another greenlet spins on sleep(0)", function()
    local done = false
    local spinner = spawn(function()
      local finish_by = clock() + 10
      while not done and clock() < finish_by do
        sleep(0)
      end
      return done
    end)
    sleep(0.01)
    done = true
    assert.is_true(spinner:get())
  end)

  it("starts from the time of the call, however long the greenlet computed before", function()
    local elapsed
    local g = spawn_later(0.001, function()
      spin(0.05)
      local start = clock()
      sleep(0.03)
      elapsed = clock() - start
    end)
    g:join()
    assert.is_true(elapsed >= 0.0295)
  end)

  it("in a greenlet lets main run and in main lets greenlets run", function()
    local count = 0
    local g = spawn(function()
      for _ = 1, 10 do
        count = count + 1
        sleep(0)
      end
    end)
    for i = 1, 10 do
      sleep(0)
      assert.equal(i, count)
    end
    g:join()
  end)
end)

describe("spawn_later", function()
  it("runs the function with its arguments after the delay", function()
    local start, at, got = clock(), nil, nil
    local g = spawn_later(0.02, function(...)
      at, got = clock(), table.pack(...)
    end, "a", nil)
    assert.is_true(g.started)
    g:join()
    assert.is_true(at - start >= 0.0195)
    assert.same({ n = 2, "a" }, got)
  end)

  it("of 0 or less runs as soon as possible, yet not within one sleep(0)", function()
    for _, seconds in ipairs { 0, -1 } do
      local ran = false
      local g = spawn_later(seconds, function()
        ran = true
      end)
      sleep(0)
      assert.is_false(ran)
      assert.is_true(g:join(20))
      assert.is_true(ran)
    end
  end)

  it("starts those with equal delays in the order of the calls, also from a timer", function()
    local seen, list = trace(), {}
    local function start_five()
      for i = 1, 5 do
        list[#list + 1] = spawn_later(0.005, seen, i)
      end
    end
    start_five()
    spawn_later(0.001, start_five):join()
    moonlet.joinall(list)
    assert.equal("1 2 3 4 5 1 2 3 4 5", tostring(seen))
  end)

  it("counts from the call, however long the greenlet computed before", function()
    local delay
    spawn_later(0.001, function()
      spin(0.05)
      local start = clock()
      spawn_later(0.03, function()
        delay = clock() - start
      end):join()
    end):join()
    assert.is_true(delay >= 0.0295)
  end)

  it("never starts a greenlet that was killed before", function()
    local ran = false
    local g = spawn_later(0.001, function()
      ran = true
    end)
    assert.is_true(g:kill())
    sleep(0.005)
    assert.is_false(ran)
  end)
end)

describe("a Timeout and a result due in the same pass", function()
  it("the Timeout wins, since the result passes through the queue", function()
    local g = spawn(sleep, 0.01)
    sleep(0)
    local timeout = moonlet.Timeout.start_new(0.01)
    spin(0.03)
    assert.equal(timeout, support.error_of(g.join, g))
    g:join()
  end)
end)

describe("idle", function()
  it("returns once nothing else is ready", function()
    local seen = trace()
    for i = 1, 3 do
      spawn(function()
        for _ = 1, i do
          sleep(0)
        end
        seen(i)
      end)
    end
    moonlet.idle()
    assert.equal("1 2 3", tostring(seen))
  end)

  it("does not wait for those that sleep", function()
    local g = spawn(sleep, 10)
    moonlet.idle()
    assert.is_false(g:ready())
    g:kill()
  end)

  it("works in a greenlet too", function()
    local seen = trace()
    local g = spawn(function()
      moonlet.idle()
      seen("idle")
    end)
    spawn(function()
      sleep(0)
      sleep(0)
      seen("worker")
    end)
    g:join()
    assert.equal("worker idle", tostring(seen))
  end)
end)
