local event = require "moonlet.event"
local moonlet = require "moonlet"
local queue = require "moonlet.queue"
local support = require "support"
local testing = require "moonlet.testing"

local Timeout, with_timeout = moonlet.Timeout, moonlet.with_timeout
local error_of = support.error_of
local sleep, spawn, trace = moonlet.sleep, moonlet.spawn, support.trace

describe("a Timeout", function()
  it("is started once, also when a finalizer starts it in the middle", function()
    local starts, list = 0, {}
    local function start(timeout)
      if pcall(timeout.start, timeout) then
        starts = starts + 1
      end
    end
    local function leave_garbage(timeout)
      setmetatable({}, { __gc = function()
        start(timeout)
      end })
    end
    local mode = collectgarbage("incremental", 100, 1000, 30) -- a step is a whole cycle
    for i = 1, 600 do
      list[i] = Timeout(60)
      collectgarbage()
      collectgarbage "stop"
      leave_garbage(list[i])
      collectgarbage "restart"
      start(list[i])
    end
    collectgarbage("incremental", 200, 100, 13) -- as it was
    collectgarbage(mode)
    collectgarbage()
    assert.equal(600, starts)
    for _, timeout in ipairs(list) do
      timeout:cancel()
      assert.is_false(timeout:pending())
    end
  end)

  it("raises itself where the greenlet blocks", function()
    local timeout = Timeout(0.005)
    local start = support.clock()
    timeout:start()
    local err = error_of(sleep, 10)
    assert.is_true(err == timeout)
    assert.is_true(err:is(Timeout))
    assert.is_true(support.clock() - start >= 0.0045)
    assert.is_false(timeout:pending())
  end)

  it("strikes the greenlet that started it and no other", function()
    local timeout
    local g = spawn(function()
      timeout = Timeout.start_new(0.002)
      return error_of(sleep, 10)
    end)
    sleep(0.01)
    assert.equal(timeout, g:get())
  end)

  it("strikes in a coroutine in which its greenlet blocks", function()
    local timeout = Timeout.start_new(0.002)
    local ok, err = coroutine.resume(coroutine.create(function()
      sleep(10)
    end))
    assert.is_false(ok)
    assert.equal(timeout, err)
  end)

  it("that was cancelled in time never strikes", function()
    local timeout = Timeout.start_new(0.002)
    timeout:cancel()
    sleep(0.01)
    assert.is_false(timeout:pending())
  end)

  it("does not strike a body that computes past it and is done", function()
    local timeout = Timeout.start_new(0.002)
    support.spin(0.01)
    timeout:cancel()
    support.turns()
  end)

  it("counts from its start, however long the greenlet computed before", function()
    local elapsed
    moonlet.spawn_later(0.001, function()
      support.spin(0.05)
      local start = support.clock()
      local _ = Timeout.start_new(0.03)
      error_of(sleep, 10)
      elapsed = support.clock() - start
    end):join()
    assert.is_true(elapsed >= 0.0295)
  end)

  it("that leaves a greenlet makes it fail", function()
    local errors = support.uncaught()
    local timeout
    local g = spawn(function()
      timeout = Timeout.start_new(0.001)
      sleep(10)
    end)
    g:join()
    assert.is_false(g:successful())
    assert.equal(timeout, g.exception)
    assert.equal(timeout, errors[1].err)
  end)

  it("is kept while it is pending, and not longer", function()
    local kept = setmetatable({}, { __mode = "k" })
    kept[Timeout.start_new(0.005)] = "struck"
    kept[Timeout.start_new(10)] = "cancelled"
    collectgarbage()
    local err = error_of(sleep, 10)
    assert.equal("struck", kept[err])
    for timeout in pairs(kept) do
      timeout:cancel()
    end
    err = nil -- luacheck: ignore
    collectgarbage()
    assert.is_nil(next(kept))
  end)

  it("of which many are pending at once strike in order of time", function()
    support.unbounded()
    local seconds, struck = {}, {}
    testing.virtual_clock(function()
      for i = 1, 2000 do
        seconds[i] = i * 7919 % 2000 / 16
        Timeout.start_new(seconds[i])
      end
      for i = 1, #seconds do
        struck[i] = error_of(sleep, 1000).seconds
      end
    end)
    table.sort(seconds)
    assert.same(seconds, struck)
  end)

  it("is one timer while it is pending", function()
    local before = moonlet.stats().timers
    local timeout = Timeout.start_new(10)
    assert.equal(before + 1, moonlet.stats().timers)
    timeout:cancel()
    assert.equal(before, moonlet.stats().timers)
  end)

  it("has its seconds as a field", function()
    assert.equal(1.5, Timeout(1.5).seconds)
    assert.is_nil(Timeout().seconds)
  end)
end)

describe("Timeout's start and cancel", function()
  it("start returns the Timeout", function()
    local timeout = Timeout(10)
    assert.equal(timeout, timeout:start())
    timeout:cancel()
  end)

  it("pending is true from start to cancel", function()
    local timeout = Timeout(10)
    assert.is_false(timeout:pending())
    timeout:start()
    assert.is_true(timeout:pending())
    timeout:cancel()
    assert.is_false(timeout:pending())
  end)

  it("start while it is pending is an error", function()
    local timeout <close> = Timeout.start_new(10)
    assert.is_string(error_of(timeout.start, timeout))
    assert.is_true(timeout:pending())
  end)

  it("cancel and close may be called at any time, any number of times", function()
    local timeout = Timeout(0.001)
    timeout:cancel()
    timeout:start()
    timeout:cancel()
    timeout:cancel()
    timeout:close()
    timeout:close()
    sleep(0.003)
  end)

  it("a cancelled one and one that struck can be started again", function()
    local timeout = Timeout.start_new(0.001)
    timeout:cancel()
    timeout:start()
    assert.equal(timeout, error_of(sleep, 10))
    timeout:start()
    assert.equal(timeout, error_of(sleep, 10))
  end)

  it("a <close> variable is cancelled at the end of its block", function()
    local outer
    do
      local timeout <close> = Timeout.start_new(10)
      outer = timeout
      assert.is_true(timeout:pending())
    end
    assert.is_false(outer:pending())
  end)

  it("start_new starts a Timeout it is given unless it is pending, and returns it", function()
    local timeout <close> = Timeout(10)
    assert.equal(timeout, Timeout.start_new(timeout))
    assert.is_true(timeout:pending())
    assert.equal(timeout, Timeout.start_new(timeout))
    assert.is_true(timeout:pending())
  end)
end)

describe("Timeout's seconds", function()
  it("nil never strikes, is never pending and costs no timer", function()
    local before = moonlet.stats().timers
    local timeout = Timeout()
    assert.equal(timeout, timeout:start())
    assert.is_false(timeout:pending())
    assert.equal(before, moonlet.stats().timers)
    sleep(0.002)
    timeout:cancel()
    assert.equal("v", Timeout(nil):run(function()
      return "v"
    end))
  end)

  it("of 0 or less are due at the next pass of the loop", function()
    for _, seconds in ipairs { 0, -1 } do
      local timeout = Timeout.start_new(seconds)
      assert.is_true(timeout:pending())
      local start = support.clock()
      assert.equal(timeout, error_of(sleep, 60))
      assert.is_true(support.clock() - start < 20)
    end
  end)
end)

describe("Timeout's error", function()
  it("replaces the Timeout as what is raised", function()
    local too_long = setmetatable({}, { __name = "TooLong" })
    local timeout = Timeout.start_new(0.001, too_long)
    assert.equal(too_long, error_of(sleep, 10))
    assert.is_false(timeout:pending())
  end)

  it("as a string is raised as it is", function()
    local timeout = Timeout.start_new(0.001, "too slow")
    assert.equal("too slow", error_of(sleep, 10))
    assert.is_false(timeout:pending())
  end)

  it("as a class is raised as an instance of it", function()
    local TooLong = Timeout:extend()
    local _ = Timeout.start_new(0.001, TooLong)
    local err = error_of(sleep, 10)
    assert.is_true(err:is(TooLong))
    assert.not_equal(TooLong, err)
  end)

  it("as a class that cannot be constructed is that error, and the Timeout is over", function()
    local Broken = Timeout:extend()
    function Broken.new()
      error("broken", 0)
    end
    local timeout = Timeout.start_new(0.001, Broken)
    assert.equal("broken", error_of(sleep, 10))
    assert.is_false(timeout:pending())
    timeout:start()
    timeout:cancel()
  end)

  it("false does not make it silent without run", function()
    local timeout = Timeout.start_new(0.001, false)
    assert.equal(timeout, error_of(sleep, 10))
  end)
end)

describe("tostring of a Timeout", function()
  local texts = {
    { "1 second", 1 },
    { "2 seconds", 2 },
    { "0.5 seconds", 0.5 },
    { "1 second (silent)", 1, false },
    { "0.5 seconds (silent)", 0.5, false },
    { "2 seconds: too slow", 2, "too slow" },
    { "", nil },
  }
  for _, case in ipairs(texts) do
    it(("is %q"):format(case[1]), function()
      assert.equal(case[1], tostring(Timeout(case[2], case[3])))
    end)
  end
end)

describe("Timeout:run", function()
  it("returns the function's results, passes its arguments, and cancels", function()
    local timeout = Timeout(10)
    assert.same({ n = 3, 1, nil, 3 }, table.pack(timeout:run(function(...)
      assert.is_true(timeout:pending())
      return ...
    end, 1, nil, 3)))
    assert.is_false(timeout:pending())
  end)

  it("raises the Timeout when it expires", function()
    local timeout = Timeout(0.001)
    assert.equal(timeout, error_of(timeout.run, timeout, sleep, 10))
    assert.is_false(timeout:pending())
  end)

  it("passes the function's error on and cancels", function()
    local timeout, problem = Timeout(10), {}
    assert.equal(problem, error_of(timeout.run, timeout, error, problem))
    assert.is_false(timeout:pending())
  end)

  it("of a silent one ends quietly when it expires", function()
    local seen = trace()
    local result = Timeout(0.001, false):run(function()
      sleep(10)
      seen("never")
      return true
    end)
    assert.is_nil(result)
    assert.equal("", tostring(seen))
  end)

  it("of a silent one passes on errors and other Timeouts", function()
    local silent, problem = Timeout(10, false), {}
    assert.equal(problem, error_of(silent.run, silent, error, problem))
    local other = Timeout.start_new(0.001, false)
    assert.equal(other, error_of(silent.run, silent, sleep, 10))
    assert.is_false(silent:pending())
  end)

  it("can be used again", function()
    local timeout = Timeout(0.001, false)
    for _ = 1, 3 do
      timeout:run(sleep, 10)
      assert.equal("v", timeout:run(function()
        return "v"
      end))
    end
  end)
end)

describe("nested Timeouts", function()
  it("of equal seconds: the one that was started first wins", function()
    local first <close> = Timeout.start_new(0.005)
    local second <close> = Timeout.start_new(0.005)
    assert.equal(first, error_of(sleep, 10))
    second:cancel()
  end)

  it("the outer one, when shorter, cancels the inner on its way out", function()
    local outer, inner = Timeout.start_new(0.001), Timeout(5)
    assert.equal(outer, error_of(inner.run, inner, sleep, 10))
    assert.is_false(inner:pending())
  end)

  it("the inner one, when shorter, leaves the outer pending", function()
    local outer, inner = Timeout.start_new(5), Timeout(0.001)
    assert.equal(inner, error_of(inner.run, inner, sleep, 10))
    assert.is_true(outer:pending())
    outer:cancel()
  end)

  it("both strike one after the other when the first is caught", function()
    local a, b = Timeout.start_new(0.002), Timeout.start_new(0.004)
    assert.equal(a, error_of(sleep, 10))
    assert.equal(b, error_of(sleep, 10))
  end)
end)

describe("a Timeout as a timeout argument", function()
  local waits = {
    ["join"] = function(timeout)
      local g <close> = spawn(sleep, 0.02)
      g:join(timeout)
    end,
    ["get"] = function(timeout)
      local g <close> = spawn(sleep, 0.02)
      g:get(timeout)
    end,
    ["joinall"] = function(timeout)
      local g <close> = spawn(sleep, 0.02)
      moonlet.joinall({ g }, timeout)
    end,
    ["wait"] = function(timeout)
      moonlet.wait({ event.Event() }, timeout)
    end,
    ["Event:wait"] = function(timeout)
      event.Event():wait(timeout)
    end,
    ["AsyncResult:get"] = function(timeout)
      event.AsyncResult():get(timeout)
    end,
    ["Queue:get"] = function(timeout)
      queue.Queue():get(timeout)
    end,
  }
  for name, call in pairs(waits) do
    it("is raised by " .. name, function()
      local timeout = Timeout.start_new(0.002)
      assert.equal(timeout, error_of(call, timeout))
    end)
  end

  it("does not end with the call it was passed to", function()
    local g = spawn(function()
      return 1
    end)
    local timeout <close> = Timeout.start_new(10)
    assert.equal(1, g:get(timeout))
    assert.is_true(timeout:pending())
  end)
end)

describe("with_timeout", function()
  it("returns all results and passes all arguments", function()
    assert.same({ n = 3, 1, nil, 3 }, table.pack(with_timeout(5, function(...)
      return ...
    end, 1, nil, 3)))
    assert.equal(0, select("#", with_timeout(5, sleep)))
  end)

  it("returns nil, 'timeout' when the time passes", function()
    assert.same({ n = 2, nil, "timeout" }, table.pack(with_timeout(0.001, sleep, 10)))
  end)

  it("without seconds never times out", function()
    assert.equal("v", with_timeout(nil, function()
      sleep(0.002)
      return "v"
    end))
  end)

  it("passes other errors on", function()
    local problem = {}
    assert.equal(problem, error_of(with_timeout, 5, error, problem))
  end)

  it("passes other Timeouts on", function()
    local outer = Timeout.start_new(0.001)
    assert.equal(outer, error_of(with_timeout, 5, sleep, 10))
    local raised = Timeout(1)
    assert.equal(raised, error_of(with_timeout, 5, error, raised))
  end)

  it("nested, the outer shorter: the outer one's answer", function()
    local seen = trace()
    local result, why = with_timeout(0.001, function()
      with_timeout(5, sleep, 10)
      seen("never")
    end)
    assert.same({ n = 2, nil, "timeout" }, table.pack(result, why))
    assert.equal("", tostring(seen))
  end)

  it("nested, the inner shorter: the inner one's answer", function()
    assert.same({ "inner", "timeout" }, { with_timeout(5, function()
      local _, why = with_timeout(0.001, sleep, 10)
      return "inner", why
    end) })
  end)

  it("cancels its timer however the function ends", function()
    local before = moonlet.stats().timers
    with_timeout(5, sleep)
    pcall(with_timeout, 5, error, "problem")
    with_timeout(0.001, sleep, 10)
    assert.equal(before, moonlet.stats().timers)
  end)

  it("lets a kill pass", function()
    local g = spawn(with_timeout, 5, sleep, 10)
    sleep(0)
    g:kill()
    assert.is_true(g.value:is(moonlet.GreenletExit))
  end)
end)

describe("a subclass of Timeout", function()
  local Deadline = Timeout:extend()

  function Deadline:new(seconds, task)
    Deadline.super.new(self, seconds)
    self.task = task
  end

  it("raises its instances", function()
    local deadline = Deadline(0.001, "report")
    deadline:start()
    local err = error_of(sleep, 10)
    assert.equal(deadline, err)
    assert.is_true(err:is(Deadline))
    assert.is_true(err:is(Timeout))
    assert.is_false(Timeout(1):is(Deadline))
    assert.equal("report", err.task)
    assert.equal(0.001, err.seconds)
  end)

  it("has a start_new of its own, which takes what its constructor takes", function()
    local deadline <close> = Deadline.start_new(10, "report")
    assert.is_true(deadline:is(Deadline))
    assert.is_true(deadline:pending())
    assert.equal("report", deadline.task)
    assert.equal(deadline, Deadline.start_new(deadline))
    local other <close> = Timeout(10)
    assert.equal(other, Deadline.start_new(other))
    assert.is_true(other:pending())
    local below <close> = Deadline:extend().start_new(10)
    assert.is_true(below:is(Deadline))
  end)
end)
