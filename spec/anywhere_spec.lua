local event = require "moonlet.event"
local lock = require "moonlet.lock"
local moonlet = require "moonlet"
local places = require "support.places"
local queue = require "moonlet.queue"
local support = require "support"

local sleep, spawn = moonlet.sleep, moonlet.spawn

-- Every wait: enter(long) blocks, for a long time if so asked, until wake(); it returns true when
-- it was woken as it should be. cleanup() ends what it needed.
local waits = {
  ["sleep"] = function()
    return {
      enter = function(long)
        sleep(long and 100 or 0.001)
        return true
      end,
      wake = function() end,
    }
  end,
  ["Queue:get"] = function()
    local q = queue.Queue()
    return {
      enter = function()
        return q:get() == "item"
      end,
      wake = function()
        q:put("item")
      end,
    }
  end,
  ["Event:wait"] = function()
    local e = event.Event()
    return {
      enter = function()
        return e:wait() == true
      end,
      wake = function()
        e:set()
      end,
    }
  end,
  ["Semaphore:acquire"] = function()
    local s = lock.Semaphore(0)
    return {
      enter = function()
        return s:acquire() == true and s.counter == 0
      end,
      wake = function()
        s:release()
      end,
    }
  end,
  ["join"] = function()
    local gate = event.Event()
    local g = spawn(gate.wait, gate)
    return {
      enter = function()
        return g:join() == true
      end,
      wake = function()
        gate:set()
      end,
      cleanup = function()
        g:kill()
      end,
    }
  end,
}

-- Runs body in a greenlet that is blocked in the place, with a fresh wait of each kind.
local function in_each_wait(place, long, body)
  for name, new in pairs(waits) do
    local wait = new()
    local case = { name = name, closed = support.trace(), entered = false, wake = wait.wake }
    function case.enter()
      local _ <close> = support.closing(case.closed, "inner")
      case.entered = true
      case.woken = wait.enter(long)
    end
    function case.start(f)
      case.greenlet = spawn(function()
        local _ <close> = support.closing(case.closed, "outer")
        f()
        return "done"
      end)
      sleep(0)
      assert.is_true(case.entered, name .. " was not entered")
      assert.is_false(case.greenlet:ready(), name .. " did not block")
    end
    body(case, function()
      place.run(case.enter)
    end)
    if wait.cleanup then
      wait.cleanup()
    end
  end
end

for _, place in ipairs(places) do
  describe("in " .. place.name, function()
    it("every wait blocks and is woken", function()
      in_each_wait(place, false, function(case, run)
        case.start(run)
        case.wake()
        assert.equal("done", case.greenlet:get(), case.name)
        assert.is_true(case.woken, case.name)
        assert.equal("inner outer", tostring(case.closed))
      end)
    end)

    it("every wait blocks and is woken in main", function()
      in_each_wait(place, false, function(case, run)
        local waker = spawn(function()
          sleep(0)
          case.wake()
        end)
        run()
        assert.is_true(case.woken, case.name)
        waker:join()
      end)
    end)

    it("a kill reaches every wait", function()
      in_each_wait(place, true, function(case, run)
        case.start(run)
        assert.is_true(case.greenlet:kill())
        assert.is_nil(case.woken, case.name)
        assert.equal("inner outer", tostring(case.closed), case.name)
        assert.is_true(case.greenlet:successful())
        assert.is_true(case.greenlet.value:is(moonlet.GreenletExit))
      end)
    end)

    it("a Timeout reaches every wait", function()
      in_each_wait(place, true, function(case, run)
        local timeout, err
        case.start(function()
          timeout = moonlet.Timeout.start_new(0.001)
          err = support.error_of(run)
        end)
        assert.equal("done", case.greenlet:get(), case.name)
        assert.equal(timeout, err)
        assert.equal("inner outer", tostring(case.closed), case.name)
      end)
    end)

    it("a Timeout reaches every wait in main", function()
      in_each_wait(place, true, function(case, run)
        local timeout = moonlet.Timeout.start_new(0.001)
        assert.equal(timeout, support.error_of(run), case.name)
        assert.is_nil(case.woken)
      end)
    end)

    it("an error after a wait goes out as it does without", function()
      support.uncaught()
      local problem = { "problem" }
      local g = spawn(place.run, function()
        sleep(0)
        error(problem)
      end)
      g:join()
      assert.equal(problem, g.exception)
    end)
  end)
end

describe("in all places at once", function()
  local function everywhere(wait, first)
    for i = 1, #places do
      places[(first + i) % #places + 1].run(wait)
    end
    return true
  end

  local function crowd(size, wait)
    local list = {}
    for i = 1, size do
      list[i] = spawn(everywhere, wait, i)
    end
    assert.equal(size, #moonlet.joinall(list, nil, true))
  end

  it("a thousand greenlets wait", function()
    crowd(1000, function()
      sleep(0)
    end)
  end)

  it("greenlets wait on timers", function()
    crowd(30, function()
      sleep(0.0001)
    end)
  end)

  it("a wait may follow a wait", function()
    crowd(10, function()
      for _ = 1, 5 do
        sleep(0)
      end
    end)
  end)

  it("one place may stand in another, each in every one", function()
    for _, outer in ipairs(places) do
      local list = {}
      for i, inner in ipairs(places) do
        list[i] = spawn(outer.run, function()
          inner.run(function()
            sleep(0)
          end)
        end)
      end
      moonlet.joinall(list, nil, true)
    end
  end)

  for _, mode in ipairs { "incremental", "generational" } do
    it("the collector may step before and after every wait in " .. mode .. " mode", function()
      collectgarbage(mode)
      finally(function()
        collectgarbage("incremental")
      end)
      crowd(10, function()
        collectgarbage("step")
        sleep(0)
        collectgarbage("step")
      end)
    end)

    it("a full collection spares what blocked greenlets need in " .. mode .. " mode", function()
      collectgarbage(mode)
      finally(function()
        collectgarbage("incremental")
      end)
      local gate, list = event.Event(), {}
      for i, place in ipairs(places) do
        list[i] = spawn(function()
          local kept = { tostring(i) }
          place.run(function()
            local own = { "own" .. i }
            gate:wait()
            assert(own[1] == "own" .. i)
          end)
          return kept[1]
        end)
      end
      sleep(0)
      collectgarbage()
      collectgarbage()
      gate:set()
      moonlet.joinall(list, nil, true)
      for i, g in ipairs(list) do
        assert.equal(tostring(i), g.value)
      end
    end)
  end

  it("a kill unwinds them all", function()
    local closed, list = 0, {}
    for i = 1, 5 * #places do
      list[i] = spawn(places[i % #places + 1].run, function()
        local _ <close> = setmetatable({}, {
          __close = function()
            sleep(0)
            closed = closed + 1
          end,
        })
        sleep(100)
      end)
    end
    sleep(0)
    assert.is_true(moonlet.killall(list))
    assert.equal(#list, closed)
  end)
end)

describe("in a __gc finalizer", function()
  local function error_in_finalizer(wait)
    local err
    setmetatable({}, {
      __gc = function()
        err = support.error_of(wait)
      end,
    })
    collectgarbage()
    return tostring(err)
  end

  it("a wait raises an error that says so", function()
    assert.matches("finalizer", error_in_finalizer(sleep))
    assert.matches("finalizer", error_in_finalizer(function()
      sleep(0.001)
    end))
  end)

  it("every wait does, in a greenlet too, and leaves nothing registered", function()
    for name, new in pairs(waits) do
      local wait = new()
      local text
      spawn(function()
        text = error_in_finalizer(function()
          wait.enter(true)
        end)
      end):join()
      assert.matches("finalizer", text, nil, nil, name)
      if wait.cleanup then
        wait.cleanup()
      end
    end
  end)

  it("what need not wait works", function()
    local q = queue.Queue()
    setmetatable({}, {
      __gc = function()
        q:put("finalized")
        spawn(q.put, q, "spawned")
      end,
    })
    collectgarbage()
    assert.equal("finalized", q:get(5))
    assert.equal("spawned", q:get(5))
  end)
end)
