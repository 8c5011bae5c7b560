local event = require "moonlet.event"
local lock = require "moonlet.lock"
local moonlet = require "moonlet"
local queue = require "moonlet.queue"
local support = require "support"
local testing = require "moonlet.testing"

local GreenletExit = moonlet.GreenletExit
local sleep, spawn, trace = moonlet.sleep, moonlet.spawn, support.trace

-- A greenlet that is blocked already when this returns.
local function blocked(f, ...)
  local g = spawn(f, ...)
  sleep(0)
  return g
end

-- Blocks until it is killed; returns the error.
local function swallow()
  return support.error_of(sleep, 10)
end

describe("kill", function()
  it("raises a GreenletExit where the greenlet blocks", function()
    local caught
    local g = blocked(function()
      caught = swallow()
    end)
    g:kill()
    assert.is_true(caught:is(GreenletExit))
    assert.matches("GreenletExit", tostring(caught))
  end)

  it("returns true once the greenlet is dead, all the waiting of its cleanup included", function()
    local seen = trace()
    local g = blocked(function()
      local _ <close> = setmetatable({}, {
        __close = function()
          seen("closing")
          sleep(0.005)
          seen("closed")
        end,
      })
      sleep(10)
    end)
    assert.is_true(g:kill())
    seen("killed")
    assert.equal("closing closed killed", tostring(seen))
    assert.is_true(g:dead())
  end)

  it("runs pcall handlers and close variables, innermost first", function()
    local seen = trace()
    local g = blocked(function()
      local _ <close> = support.closing(seen, "outer")
      local ok, err = pcall(function()
        local _ <close> = support.closing(seen, "inner")
        sleep(10)
      end)
      seen(ok)
      error(err, 0)
    end)
    g:kill()
    assert.equal("inner false outer", tostring(seen))
    assert.is_true(g:successful())
  end)

  it("with timeout 0 returns before anything happened; errors come in call order", function()
    local seen, list = trace(), {}
    for i = 1, 3 do
      list[i] = blocked(function()
        swallow()
        seen(i)
      end)
    end
    list[2]:kill(nil, 0)
    list[1]:kill(nil, 0)
    list[3]:kill(nil, 0)
    assert.equal("", tostring(seen))
    assert.is_false(list[1]:dead())
    sleep(0)
    assert.equal("2 1 3", tostring(seen))
  end)

  it("as moonlet.kill(g [, err]) does not wait either", function()
    support.uncaught()
    local a, b = blocked(sleep, 10), blocked(sleep, 10)
    moonlet.kill(a)
    moonlet.kill(b, "why not")
    assert.is_false(a:dead())
    moonlet.joinall({ a, b })
    assert.is_true(a.value:is(GreenletExit))
    assert.equal("why not", b.exception)
  end)

  it("lets a greenlet that is ready in sleep(0) run on to its next wait", function()
    local seen = trace()
    local g = blocked(function()
      sleep(0)
      seen("woken")
      sleep(10)
      seen("never")
    end)
    g:kill()
    assert.equal("woken", tostring(seen))
  end)

  it("with an error makes the greenlet fail with that error", function()
    local errors = support.uncaught()
    for i, problem in ipairs { "words", { "table" }, 42 } do
      local g = blocked(sleep, 10)
      g:kill(problem)
      assert.is_true(g:dead())
      assert.is_false(g:successful())
      assert.equal(problem, g.exception)
      assert.equal(i, #errors)
    end
  end)

  it("with a subclass of GreenletExit counts as success too", function()
    local Bye = GreenletExit:extend()
    local bye = Bye("that is all")
    local g = blocked(sleep, 10)
    g:kill(bye)
    assert.is_true(g:successful())
    assert.equal(bye, g.value)
    assert.is_true(g.value:is(Bye))
    assert.matches("that is all", tostring(bye))
  end)

  it("with a class raises an instance of it", function()
    local Bye = GreenletExit:extend()
    local g = blocked(sleep, 10)
    g:kill(Bye)
    assert.is_true(g:successful())
    assert.not_equal(Bye, g.value)
    assert.is_true(g.value:is(Bye))
  end)

  it("of a dead greenlet gives true and changes nothing", function()
    support.uncaught()
    local done = spawn(function()
      return "v"
    end)
    local failed = spawn(error, "problem", 0)
    moonlet.joinall({ done, failed })
    for _, timeout in ipairs { 0, 1, false } do
      assert.is_true(done:kill(nil, timeout or nil))
      assert.is_true(failed:kill("other", timeout or nil))
    end
    assert.equal("v", done.value)
    assert.equal("problem", failed.exception)
  end)

  it("before the greenlet ran means that it never runs", function()
    local ran = false
    local function run()
      ran = true
    end
    local new, started, later = moonlet.Greenlet(run), spawn(run), moonlet.spawn_later(5, run)
    for _, g in ipairs { later, new, started } do
      assert.is_true(g:kill())
      assert.is_true(g:dead())
      assert.is_true(g:ready())
      assert.is_true(g:successful())
      assert.is_true(g.value:is(GreenletExit))
      g:start()
      assert.is_false(g.started)
      assert.is_true(g:join())
    end
    testing.virtual_clock(sleep, 6)
    assert.is_false(ran)
  end)

  it("gives false when the victim is not dead in time; the error stays delivered", function()
    local g = blocked(function()
      swallow()
      sleep(0.02)
      return "lived on"
    end)
    assert.is_false(g:kill(nil, 0.001))
    assert.is_false(g:dead())
    assert.equal("lived on", g:get())
    assert.is_true(g:successful())
  end)

  it("without a timeout waits for the end of a victim that swallows the error", function()
    local g = blocked(function()
      swallow()
      sleep(0.005)
      return "own end"
    end)
    assert.is_true(g:kill())
    assert.equal("own end", g.value)
  end)

  it("of a killer hit by a Timeout lets the killer go; the kill stays delivered", function()
    local seen = trace()
    local g = blocked(function()
      swallow()
      seen("hit")
      sleep(0.02)
    end)
    local timeout = moonlet.Timeout.start_new(0.001)
    assert.equal(timeout, support.error_of(g.kill, g))
    assert.equal("hit", tostring(seen))
    assert.is_false(g:dead())
    g:join()
  end)

  it("twice in a row lets both calls return", function()
    local g = blocked(sleep, 10)
    local a, b = spawn(g.kill, g), spawn(g.kill, g)
    moonlet.joinall({ a, b })
    assert.is_true(a.value)
    assert.is_true(b.value)
  end)

  it("reaches a greenlet in every turn in which it blocks anew", function()
    local g = blocked(function()
      for _ = 1, 3 do
        swallow()
      end
      return "survived three"
    end)
    for _ = 1, 2 do
      assert.is_false(g:kill(nil, 0.001))
    end
    assert.is_true(g:kill())
    assert.equal("survived three", g.value)
  end)
end)

describe("killing oneself", function()
  it("raises at once", function()
    local seen = trace()
    local g = spawn(function()
      local _ <close> = support.closing(seen, "closed")
      moonlet.getcurrent():kill()
      seen("never")
    end)
    g:join()
    assert.equal("closed", tostring(seen))
    assert.is_true(g.value:is(GreenletExit))
  end)

  it("with timeout 0 raises at the next wait", function()
    local seen = trace()
    local g = spawn(function()
      moonlet.getcurrent():kill(nil, 0)
      seen("goes on")
      sleep(0.01)
      seen("never")
    end)
    g:join()
    assert.equal("goes on", tostring(seen))
    assert.is_true(g.value:is(GreenletExit))
  end)

  it("by raising a GreenletExit is the same", function()
    local exit = GreenletExit()
    local g = spawn(error, exit)
    g:join()
    assert.is_true(g:successful())
    assert.equal(exit, g.value)
  end)
end)

describe("what a killed greenlet waited for loses nothing:", function()
  it("an item goes to the next getter", function()
    local q = queue.Queue()
    local first, second = blocked(q.get, q), blocked(q.get, q)
    first:kill()
    q:put("item")
    assert.equal("item", second:get())
  end)

  it("an item that was put before the getter could run is not lost", function()
    local q = queue.Queue()
    local g = blocked(q.get, q)
    q:put("item")
    g:kill()
    local item = q:get(0) or g.value
    assert.equal("item", item)
  end)

  it("a permit goes to the next who asks", function()
    local s = lock.Semaphore(0)
    local first, second = blocked(s.acquire, s), blocked(s.acquire, s)
    first:kill()
    s:release()
    assert.is_true(second:get())
    assert.equal(0, s.counter)
  end)

  it("a blocked put is withdrawn", function()
    local q = queue.Queue(1)
    q:put(1)
    local g = blocked(q.put, q, 2)
    g:kill()
    assert.equal(1, q:get())
    assert.is_true(q:empty())
  end)

  it("no timer, waiter or stack stays registered", function()
    local before = moonlet.stats()
    local e, r = event.Event(), event.AsyncResult()
    local sleeper = blocked(sleep, 10)
    local list = { sleeper, blocked(e.wait, e, 10), blocked(r.get, r),
                   blocked(sleeper.join, sleeper, 10),
                   blocked(table.sort, { 1, 2 }, function() sleep(10) end) }
    moonlet.killall(list)
    local after = moonlet.stats()
    e:set()
    r:set(1)
    for _, name in ipairs { "greenlets", "timers", "watchers", "pinned" } do
      assert.equal(before[name], after[name], name)
    end
  end)
end)

describe("shield", function()
  it("returns what the function returns", function()
    assert.same({ n = 3, 1, nil, 3 }, table.pack(moonlet.shield(function(...)
      return ...
    end, 1, nil, 3)))
  end)

  it("raises what the function raises", function()
    local problem = {}
    assert.equal(problem, support.error_of(moonlet.shield, error, problem))
  end)

  it("keeps a kill waiting until the function is done", function()
    local seen, gate = trace(), event.Event()
    local g = blocked(function()
      moonlet.shield(function()
        gate:wait()
        seen("done")
      end)
      sleep(10)
      seen("never")
    end)
    assert.is_false(g:kill(nil, 0.001))
    assert.equal("", tostring(seen))
    gate:set()
    g:join()
    assert.equal("done", tostring(seen))
    assert.is_true(g.value:is(GreenletExit))
  end)

  it("keeps a Timeout waiting until the function is done", function()
    local seen = trace()
    local timeout = moonlet.Timeout.start_new(0.002)
    local err = support.error_of(function()
      moonlet.shield(function()
        sleep(0.01)
        seen("done")
      end)
      sleep(10)
    end)
    assert.equal(timeout, err)
    assert.equal("done", tostring(seen))
  end)

  it("may be nested: only the end of the outermost lets the kill in", function()
    local seen = trace()
    local g = blocked(function()
      moonlet.shield(function()
        moonlet.shield(sleep, 0.001)
        seen("inner")
        sleep(0.005)
        seen("outer")
      end)
      sleep(10)
    end)
    g:kill()
    assert.equal("inner outer", tostring(seen))
  end)

  it("does not shield other greenlets", function()
    local g
    moonlet.shield(function()
      g = blocked(sleep, 10)
      g:kill()
    end)
    assert.is_true(g:dead())
  end)
end)

describe("try", function()
  it("returns true and all results", function()
    assert.same({ n = 4, true, 1, nil, 3 }, table.pack(moonlet.try(function(...)
      return ...
    end, 1, nil, 3)))
  end)

  it("returns false and the very error", function()
    local problem = {}
    assert.same({ n = 2, false, problem }, table.pack(moonlet.try(error, problem)))
    assert.same({ n = 2, false, "words" }, table.pack(moonlet.try(error, "words", 0)))
  end)

  it("lets a kill pass", function()
    local g = blocked(function()
      moonlet.try(sleep, 10)
      return "never"
    end)
    g:kill()
    assert.is_true(g.value:is(GreenletExit))
  end)

  it("lets Timeouts pass, whoever started them", function()
    local timeout = moonlet.Timeout.start_new(0.001)
    assert.equal(timeout, support.error_of(moonlet.try, sleep, 10))
    local other = moonlet.Timeout(1)
    assert.equal(other, support.error_of(moonlet.try, error, other))
  end)

  it("may block", function()
    assert.same({ true, "v" }, { moonlet.try(function()
      sleep(0.001)
      return "v"
    end) })
  end)
end)
