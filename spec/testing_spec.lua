local moonlet = require "moonlet"
local event = require "moonlet.event"
local lock = require "moonlet.lock"
local queue = require "moonlet.queue"
local socket = require "socket"
local support = require "support"
local testing = require "moonlet.testing"

local HOUR = 3600

describe("moonlet.testing virtual_clock", function()
  it("returns f's results and passes its arguments", function()
    assert.same({ n = 3, 1, nil, 3 },
                table.pack(testing.virtual_clock(function(...) return ... end, 1, nil, 3)))
  end)

  it("lets an hour of sleeps take no time", function()
    support.unbounded()
    local start = socket.gettime()
    testing.virtual_clock(function()
      for _ = 1, 60 do
        moonlet.sleep(60)
      end
    end)
    assert.is_true(socket.gettime() - start < 60)
  end)

  it("wakes sleepers by their due time, equal ones in the order of going to sleep", function()
    support.unbounded()
    local seen = support.trace()
    testing.virtual_clock(function()
      local list = {}
      for i, hours in ipairs { 3, 1, 2, 1, 3 } do
        list[i] = moonlet.spawn(function()
          moonlet.sleep(hours * HOUR)
          seen(i .. ":" .. hours)
        end)
      end
      moonlet.joinall(list)
    end)
    assert.equal("2:1 4:1 3:2 1:3 5:3", tostring(seen))
  end)

  it("keeps the order in which the program would run by the real clock", function()
    support.unbounded()
    local function program(seen, unit)
      local e, q = event.Event(), queue.Queue()
      local list = {
        moonlet.spawn(function() seen("event", e:wait(3.5 * unit)) end),
        moonlet.spawn(function() seen("get", q:get(1.5 * unit) == nil) end),
        moonlet.spawn(function()
          seen(moonlet.with_timeout(2.5 * unit, moonlet.sleep, 9 * unit))
        end),
      }
      for i = 1, 4 do
        list[#list + 1] = moonlet.spawn(function()
          moonlet.sleep(i * unit)
          seen(i)
        end)
      end
      moonlet.joinall(list)
    end
    -- By the real clock again, with longer sleeps, while a busy machine delays it by half a unit:
    -- its sleeps began at different times then.
    local real
    local unit = 0.01
    repeat
      unit, real = unit * 2, support.trace()
      local start = support.clock()
      program(real, unit)
    until support.clock() - start < 4.5 * unit
    local virtual = support.trace()
    testing.virtual_clock(program, virtual, HOUR)
    assert.equal(tostring(real), tostring(virtual))
    assert.equal(10, #virtual)
  end)

  it("moves only when nothing is ready", function()
    support.unbounded()
    local turns = 0
    testing.virtual_clock(function()
      local g = moonlet.spawn(moonlet.sleep, HOUR)
      for _ = 1, 100 do
        moonlet.sleep(0)
        turns = turns + 1
      end
      assert.is_false(g:dead())
      g:join()
    end)
    assert.equal(100, turns)
  end)

  it("moves every kind of timer: Timeouts, spawn_later, timeout arguments", function()
    support.unbounded()
    testing.virtual_clock(function()
      local t = moonlet.Timeout(HOUR)
      assert.equal(t, support.error_of(t.run, t, moonlet.sleep, 2 * HOUR))
      assert.equal("late", moonlet.spawn_later(HOUR, function() return "late" end):get())
      assert.is_false(lock.Semaphore(0):acquire(HOUR))
      assert.is_nil((queue.Queue():get(HOUR)))
    end)
  end)

  it("lets f's error through, and gives the real clock back", function()
    support.unbounded()
    local err = { "bad" }
    assert.equal(err, support.error_of(testing.virtual_clock, error, err))
    local start = socket.gettime()
    moonlet.sleep(0.02)
    assert.is_true(socket.gettime() - start >= 0.019)
  end)

  it("still raises LoopExit where nothing is left to jump to", function()
    support.unbounded()
    local e = event.Event()
    local err = support.error_of(testing.virtual_clock, e.wait, e)
    assert.is_true(err:is(moonlet.LoopExit))
  end)

  it("refuses what is no function, by name", function()
    assert.matches("bad argument #1 to 'virtual_clock'",
                   support.error_of(function() testing.virtual_clock(5) end))
  end)
end)

describe("moonlet.testing shuffle", function()
  -- The order in which n greenlets that are ready at once run.
  local function order(n)
    local seen, list = support.trace(), {}
    for i = 1, n do
      list[i] = moonlet.spawn(seen, i)
    end
    moonlet.joinall(list)
    return tostring(seen)
  end

  it("returns f's results and passes its arguments", function()
    assert.same({ n = 2, nil, "x" }, table.pack(testing.shuffle(1, function(...) return ... end,
                                                                nil, "x")))
  end)

  it("runs greenlets that are ready in another order, each once", function()
    local shuffled = testing.shuffle(1, order, 20)
    assert.are_not.equal(order(20), shuffled)
    local numbers = {}
    for n in shuffled:gmatch("%d+") do
      numbers[#numbers + 1] = tonumber(n)
    end
    table.sort(numbers)
    assert.equal(20, #numbers)
    for i = 1, 20 do
      assert.equal(i, numbers[i])
    end
  end)

  it("gives the same order for the same seed, others for others", function()
    local first = testing.shuffle(42, order, 20)
    assert.equal(first, testing.shuffle(42, order, 20))
    assert.are_not.equal(first, testing.shuffle(43, order, 20))
  end)

  it("leaves the order as it was when it is over", function()
    testing.shuffle(7, order, 5)
    assert.equal("1 2 3 4 5", order(5))
  end)

  it("starves nobody: sleep(0) lets the others run within bounds", function()
    local count = testing.shuffle(3, function()
      local ran = false
      local g = moonlet.spawn(function() ran = true end)
      local turns = 0
      while not ran do
        moonlet.sleep(0)
        turns = turns + 1
        assert.is_true(turns < 10000)
      end
      g:join()
      return turns
    end)
    assert.is_number(count)
  end)

  it("finds a program that trusts in the order, and reports the seed it fails with", function()
    local function trusting()
      local config
      local list = {
        moonlet.spawn(function() config = "set" end),
        moonlet.spawn(function() return config end),
      }
      moonlet.joinall(list)
      return list[2].value
    end
    assert.equal("set", trusting())
    local found
    for seed = 9000, 9050 do
      local ok, err = pcall(testing.shuffle, seed, function()
        if trusting() ~= "set" then
          error("config was not set")
        end
      end)
      if not ok then
        found = true
        assert.matches("config was not set", tostring(err))
        assert.matches(tostring(seed), tostring(err))
      end
    end
    assert.is_true(found)
  end)

  it("lets an error that is no string through as it is, and reports the seed to stderr", function()
    local run = support.run_script([[
      local err = {}
      local ok, raised = pcall(require("moonlet.testing").shuffle, 4711, error, err)
      print(not ok and raised == err)
    ]])
    assert.equal("true\n", run.stdout)
    assert.matches("4711", run.stderr)
  end)

  it("refuses a seed that is no number and what is no function, by name", function()
    assert.matches("bad argument #1 to 'shuffle'",
                   support.error_of(function() testing.shuffle("x", print) end))
    assert.matches("bad argument #2 to 'shuffle'",
                   support.error_of(function() testing.shuffle(1, 5) end))
  end)
end)

describe("moonlet.testing no_leaks", function()
  it("returns f's results and passes its arguments when f leaves nothing", function()
    local results = table.pack(testing.no_leaks(function(...)
      moonlet.spawn(moonlet.sleep):join()
      assert.is_false(event.Event():wait(0.001))
      local _ <close> = moonlet.Timeout.start_new(5)
      return ...
    end, 1, nil))
    assert.same({ n = 2, 1 }, results)
  end)

  it("raises f's own error", function()
    local err = { "bad" }
    assert.equal(err, support.error_of(testing.no_leaks, error, err))
  end)

  it("raises for a greenlet that is left, and names it", function()
    local g
    local err = support.error_of(testing.no_leaks, function()
      g = moonlet.spawn(function() event.Event():wait() end)
      g.name = "forgotten"
      moonlet.sleep(0)
    end)
    assert.matches("greenlet", err)
    assert.matches("forgotten", err)
    g:kill()
  end)

  it("raises for a timer that is left", function()
    local t = moonlet.Timeout(5)
    assert.matches("timer", support.error_of(testing.no_leaks, t.start, t))
    t:cancel()
  end)

  it("raises for a watcher that is left", function()
    local handle
    local err = support.error_of(testing.no_leaks, function()
      handle = moonlet.signal("SIGUSR2", print)
    end)
    assert.is_string(err)
    handle:cancel()
  end)

  it("raises for a pinned stack that is left", function()
    local g
    local err = support.error_of(testing.no_leaks, function()
      g = moonlet.spawn(function()
        table.sort({ 2, 1 }, function() return event.Event():wait() end)
      end)
      moonlet.sleep(0)
    end)
    assert.matches("pinned", err)
    g:kill()
  end)

  it("raises for a file descriptor that is left open", function()
    local file
    local err = support.error_of(testing.no_leaks, function()
      file = assert(io.open("/dev/null"))
    end)
    assert.matches("fd", err)
    file:close()
  end)

  it("does not charge f with what was there before, or what f has ended", function()
    local g = moonlet.spawn(moonlet.sleep, 5)
    support.turns(1)
    testing.no_leaks(function() moonlet.sleep(0) end)
    testing.no_leaks(function() g:kill() end)
  end)

  it("may be used again after it raised", function()
    local t = moonlet.Timeout(5)
    support.error_of(testing.no_leaks, t.start, t)
    t:cancel()
    testing.no_leaks(moonlet.sleep, 0)
  end)

  it("refuses what is no function, by name", function()
    assert.matches("bad argument #1 to 'no_leaks'",
                   support.error_of(function() testing.no_leaks(5) end))
  end)
end)
