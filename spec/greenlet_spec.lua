local moonlet = require "moonlet"
local support = require "support"
local testing = require "moonlet.testing"

local Greenlet = moonlet.Greenlet
local sleep, spawn, trace = moonlet.sleep, moonlet.spawn, support.trace

local function fail_with(err)
  error(err, 0)
end

describe("a Greenlet's state", function()
  local function state(g)
    return {
      started = g.started,
      ready = g:ready(),
      dead = g:dead(),
      successful = g:successful(),
      value = g.value,
      exception = g.exception,
    }
  end

  local fresh = { started = false, ready = false, dead = false, successful = false }
  local alive = { started = true, ready = false, dead = false, successful = false }

  it("before start: not started, not ready, not dead, without an outcome", function()
    assert.same(fresh, state(Greenlet(sleep)))
  end)

  it("after start, before it ran: started", function()
    local g = Greenlet(sleep)
    g:start()
    assert.same(alive, state(g))
    g:join()
  end)

  it("while it is blocked, and from inside: started, not dead", function()
    local inside
    local g = spawn(function()
      inside = state(moonlet.getcurrent())
      sleep(0)
    end)
    sleep(0)
    assert.same(alive, inside)
    assert.same(alive, state(g))
    g:join()
  end)

  it("after it returned: ready, dead, successful, with its value", function()
    local g = spawn(function()
      return "v"
    end)
    g:join()
    assert.same({ started = false, ready = true, dead = true, successful = true, value = "v" },
                state(g))
  end)

  it("after it failed: ready, dead, not successful, with the error itself", function()
    support.uncaught()
    local problem = { "problem" }
    local g = spawn(fail_with, problem)
    g:join()
    assert.same({ started = false, ready = true, dead = true, successful = false,
                  exception = problem }, state(g))
    assert.equal(problem, g.exception)
  end)

  it("after a kill: dead, successful, its value the GreenletExit", function()
    local g = spawn(sleep, 10)
    sleep(0)
    g:kill()
    assert.is_true(g:dead())
    assert.is_true(g:ready())
    assert.is_true(g:successful())
    assert.is_true(g.value:is(moonlet.GreenletExit))
    assert.is_nil(g.exception)
    assert.is_false(g.started)
  end)

  it("after error(nil): ready, not successful, and get raises nil", function()
    support.uncaught()
    local g = spawn(fail_with)
    g:join()
    assert.is_true(g:ready())
    assert.is_false(g:successful())
    assert.is_nil(support.error_of(g.get, g))
  end)
end)

describe("a Greenlet's fields", function()
  it("args hold its arguments and their number until it has ended", function()
    local g = spawn(sleep, 0, nil, nil)
    assert.same({ n = 3, 0 }, g.args)
    g:join()
    assert.is_nil(g.args)
  end)

  it("value is the first result", function()
    local g = spawn(function()
      return "first", "second"
    end)
    g:join()
    assert.equal("first", g.value)
  end)

  it("traceback tells the place of the error", function()
    support.uncaught()
    local line
    local function culprit()
      line = debug.getinfo(1, "l").currentline + 1
      error("on purpose")
    end
    local g = spawn(function()
      culprit()
      return true
    end)
    assert.is_nil(g.traceback)
    g:join()
    assert.matches("greenlet_spec%.lua:" .. line .. ": in ", g.traceback)
  end)

  it("traceback of an error raised by the library shows who called it", function()
    support.uncaught()
    local g = spawn(function()
      sleep({})
      return true
    end)
    g:join()
    assert.matches("greenlet_spec%.lua:%d+: in ", g.traceback)
  end)

  it("name is Greenlet-N unless it was set", function()
    local g = Greenlet(sleep)
    assert.matches("^Greenlet%-%d+$", g.name)
    g.name = "worker"
    assert.equal("worker", g.name)
    assert.matches("worker", tostring(g))
  end)

  it("id is a number of its own", function()
    local a, b = Greenlet(sleep), Greenlet(sleep)
    assert.equal("integer", math.type(a.id))
    assert.equal(a.id, a.id)
    assert.not_equal(a.id, b.id)
  end)

  it("parent is the greenlet that spawned it", function()
    local child
    local parent = spawn(function()
      child = spawn(sleep)
      child:join()
    end)
    parent:join()
    assert.equal(parent, child.parent)
    assert.equal(moonlet.getcurrent(), parent.parent)
  end)

  it("others may be added", function()
    local g = Greenlet(sleep)
    g.colour = "green"
    assert.equal("green", g.colour)
    assert.is_nil(g.taste)
  end)
end)

describe("starting", function()
  it("Greenlet(f, ...) runs nothing until start", function()
    local seen = trace()
    local g = Greenlet(seen, "ran")
    sleep(0)
    assert.equal("", tostring(seen))
    g:start()
    g:join()
    assert.equal("ran", tostring(seen))
  end)

  it("Greenlet.spawn and Greenlet.spawn_later are started Greenlets", function()
    local a = Greenlet.spawn(function(x)
      return x
    end, "now")
    local b = Greenlet.spawn_later(0.001, function(x)
      return x
    end, "later")
    assert.is_true(a.started)
    assert.is_true(b.started)
    assert.equal("now", a:get())
    assert.equal("later", b:get())
  end)

  it("start_later starts after the delay", function()
    local start = support.clock()
    local g = Greenlet(support.clock)
    g:start_later(0.02)
    assert.is_true(g.started)
    assert.is_true(g:get() - start >= 0.0195)
  end)

  it("a second start, before, during or after the run, does nothing", function()
    local runs = 0
    local g = Greenlet(function()
      runs = runs + 1
      sleep(0)
    end)
    g:start()
    g:start()
    g:start_later(0.001)
    sleep(0)
    g:start()
    g:join()
    g:start()
    g:start_later(0)
    sleep(0.003)
    assert.equal(1, runs)
  end)

  it("start does not bring start_later forward", function()
    local ran = false
    local g = Greenlet(function()
      ran = true
    end)
    testing.virtual_clock(function()
      g:start_later(0.03)
      g:start()
      support.turns()
      assert.is_false(ran)
      g:join()
    end)
    assert.is_true(ran)
  end)

  it("a thousand greenlets that ended leave nothing alive", function()
    local before, list = moonlet.stats().greenlets, {}
    for i = 1, 1000 do
      list[i] = spawn(sleep)
    end
    moonlet.joinall(list)
    assert.equal(before, moonlet.stats().greenlets)
  end)
end)

describe("a subclass of Greenlet", function()
  local Counter = Greenlet:extend()

  function Counter:new(n)
    Counter.super.new(self)
    self.n = n
  end

  function Counter:_run()
    sleep(0)
    self.n = self.n + 1
    return self.n, "done"
  end

  it("runs its _run with the instance", function()
    local g = Counter(41)
    assert.is_false(g.started)
    g:start()
    assert.same({ 42, "done" }, { g:get() })
    assert.equal(42, g.n)
    assert.equal(42, g.value)
  end)

  it("keeps the fields its initialiser set apart for every instance", function()
    local a, b = Counter(1), Counter(10)
    a:start()
    b:start()
    moonlet.joinall({ a, b })
    assert.same({ 2, 11 }, { a.n, b.n })
  end)

  it("is what `is` says, and so are its subclasses", function()
    local Other = Greenlet:extend()
    local Finer = Counter:extend()
    local g = Finer(1)
    assert.is_true(g:is(Finer))
    assert.is_true(g:is(Counter))
    assert.is_true(g:is(Greenlet))
    assert.is_false(g:is(Other))
    assert.is_false(g:is(moonlet.Timeout))
    assert.is_false(Greenlet(sleep):is(Counter))
    assert.equal(Counter, Finer.super)
    assert.equal(Greenlet, Counter.super)
  end)

  it("without an initialiser takes what Greenlet takes", function()
    local Plain = Greenlet:extend()
    local g = Plain(function(a, b)
      return a + b
    end, 1, 2)
    g:start()
    assert.equal(3, g:get())
  end)

  it("may override methods and call those of its super", function()
    local Doubling = Greenlet:extend()
    function Doubling:get(timeout)
      return 2 * Doubling.super.get(self, timeout)
    end
    local g = Doubling(function()
      return 21
    end)
    g:start()
    assert.equal(42, g:get())
  end)

  it("inherits through two levels of initialisers", function()
    local Named = Counter:extend()
    function Named:new(name, n)
      Named.super.new(self, n)
      self.name = name
    end
    local g = Named("tom", 6)
    g:start()
    assert.equal(7, g:get())
    assert.equal("tom", g.name)
  end)

  it("does not change Greenlet", function()
    assert.is_nil(rawget(Greenlet, "n"))
    assert.equal(5, spawn(function()
      return 5
    end):get())
  end)
end)

describe("get", function()
  it("returns all results, nils too", function()
    local g = spawn(function()
      return 1, nil, 3, nil
    end)
    assert.same({ n = 4, 1, nil, 3 }, table.pack(g:get()))
    assert.same({ n = 4, 1, nil, 3 }, table.pack(g:get(0)))
    assert.equal(0, select("#", spawn(sleep):get()))
  end)

  it("raises the very error the greenlet died of", function()
    support.uncaught()
    local problem = {}
    local g = spawn(fail_with, problem)
    assert.equal(problem, support.error_of(g.get, g))
    assert.equal(problem, support.error_of(g.get, g))
    assert.equal("words", support.error_of(function()
      spawn(fail_with, "words"):get()
    end))
  end)

  it("returns the GreenletExit of one that was killed", function()
    local g = spawn(sleep, 10)
    g:kill()
    assert.is_true(g:get():is(moonlet.GreenletExit))
  end)

  it("gives nil, 'timeout' when the greenlet does not end in time, and lets it run on", function()
    local g = spawn(function()
      sleep(0.03)
      return "late"
    end)
    assert.same({ nil, "timeout", n = 2 }, table.pack(g:get(0)))
    assert.same({ nil, "timeout", n = 2 }, table.pack(g:get(-1)))
    assert.same({ nil, "timeout", n = 2 }, table.pack(g:get(0.001)))
    assert.equal("late", g:get(5))
  end)

  it("serves any number of waiters", function()
    local g = spawn(function()
      sleep(0.001)
      return "v"
    end)
    local list = {}
    for i = 1, 3 do
      list[i] = spawn(g.get, g)
    end
    moonlet.joinall(list)
    assert.same({ "v", "v", "v" }, { list[1].value, list[2].value, list[3].value })
  end)
end)

describe("join", function()
  it("gives true once the greenlet has ended, however it did", function()
    support.uncaught()
    assert.is_true(spawn(sleep):join())
    assert.is_true(spawn(fail_with, "problem"):join())
    assert.is_true(spawn(sleep, 0.001):join(5))
  end)

  it("gives false when the timeout passes, and lets the greenlet run on", function()
    local g = spawn(sleep, 0.03)
    assert.is_false(g:join(0))
    assert.is_false(g:join(0.001))
    assert.is_true(g:join())
  end)

  it("waits for a greenlet that is started later", function()
    local g = Greenlet(sleep)
    local joiner = spawn(g.join, g)
    support.turns()
    assert.is_false(joiner:ready())
    g:start()
    assert.is_true(joiner:get())
  end)

  it("swallows only its own timeout: an outer Timeout goes through", function()
    local g = spawn(sleep, 10)
    local outer = moonlet.Timeout.start_new(0.005)
    assert.equal(outer, support.error_of(g.join, g, 5))
    g:kill()
  end)

  it("wakes joiners in the order in which they joined", function()
    local seen, list = trace(), {}
    local g = spawn(sleep, 0.001)
    for i = 1, 4 do
      list[i] = spawn(function()
        g:join()
        seen(i)
      end)
    end
    moonlet.joinall(list)
    assert.equal("1 2 3 4", tostring(seen))
  end)

  it("of itself with a timeout gives false when it has passed", function()
    local g = spawn(function()
      return moonlet.getcurrent():join(0.001)
    end)
    assert.is_false(g:get())
  end)

  it("that timed out is not woken by the end later", function()
    local g = spawn(sleep, 0.01)
    local elapsed
    local joiner = spawn(function()
      g:join(0.001)
      local start = support.clock()
      sleep(0.03)
      elapsed = support.clock() - start
    end)
    joiner:join()
    assert.is_true(elapsed >= 0.0295)
  end)
end)

describe("a Greenlet as a <close> variable", function()
  it("is joined when the block ends normally", function()
    local g
    do
      local scoped <close> = spawn(sleep, 0.005)
      g = scoped
    end
    assert.is_true(g:dead())
    assert.is_nil(g.exception)
    assert.is_nil(g.value)
  end)

  it("is killed when the block ends by an error, which goes on", function()
    support.uncaught()
    local g
    local problem = { "problem" }
    assert.equal(problem, support.error_of(function()
      local scoped <close> = spawn(sleep, 10)
      g = scoped
      sleep(0)
      fail_with(problem)
    end))
    assert.is_true(g:dead())
  end)
end)
