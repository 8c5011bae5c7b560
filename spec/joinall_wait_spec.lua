local event = require "moonlet.event"
local lock = require "moonlet.lock"
local moonlet = require "moonlet"
local queue = require "moonlet.queue"
local support = require "support"
local testing = require "moonlet.testing"

local iwait, joinall, killall, wait = moonlet.iwait, moonlet.joinall, moonlet.killall, moonlet.wait
local sleep, spawn, trace = moonlet.sleep, moonlet.spawn, support.trace

-- Three greenlets that end in the order 3, 1, 2.
local function three()
  local gates = { event.Event(), event.Event(), event.Event() }
  local list = {}
  for i = 1, 3 do
    list[i] = spawn(function()
      gates[i]:wait()
      return i
    end)
  end
  spawn(function()
    for _, i in ipairs { 3, 1, 2 } do
      gates[i]:set()
      sleep(0.001)
    end
  end)
  return list
end

local function failing(seconds, err)
  return spawn(function()
    sleep(seconds)
    error(err, 0)
  end)
end

local function values(list)
  local result = {}
  for i, g in ipairs(list) do
    result[i] = g.value
  end
  return result
end

describe("joinall", function()
  it("returns all in the order in which they finished", function()
    assert.same({ 3, 1, 2 }, values(joinall(three())))
  end)

  it("returns those that failed too, and raises nothing", function()
    support.uncaught()
    local bad, good = failing(0.001, "problem"), spawn(sleep, 0.01)
    assert.same({ bad, good }, joinall({ good, bad }))
  end)

  it("of an empty list returns an empty list at once", function()
    assert.same({}, joinall({}))
    assert.same({}, joinall({}, 1, true))
  end)

  it("returns those that finished so far when the timeout passes", function()
    local quick, slow = spawn(sleep, 0.001), spawn(sleep, 10)
    assert.same({ quick }, testing.virtual_clock(joinall, { slow, quick }, 0.03))
    assert.same({ quick }, joinall({ slow, quick }, 0))
    assert.is_false(slow:ready())
    slow:kill()
  end)

  it("with raise_error raises the first failure in time; the others run on", function()
    support.uncaught()
    local first, second = { "first" }, { "second" }
    local gate = event.Event()
    local late = spawn(function()
      gate:wait()
      error(second)
    end)
    local fine, early = spawn(gate.wait, gate), failing(0.001, first)
    assert.equal(first, support.error_of(joinall, { late, fine, early }, nil, true))
    assert.is_false(fine:ready())
    assert.is_false(late:ready())
    gate:set()
    assert.equal(2, #joinall({ late, fine }))
  end)

  it("with raise_error raises for one that had failed before", function()
    support.uncaught()
    local g = failing(0, "problem")
    g:join()
    assert.equal("problem", support.error_of(joinall, { g }, nil, true))
  end)

  it("with raise_error does not take a kill for a failure", function()
    local g = spawn(sleep, 10)
    sleep(0)
    g:kill(nil, 0)
    assert.same({ g }, joinall({ g }, nil, true))
  end)

  it("with raise_error and a timeout returns those that finished", function()
    local slow = spawn(sleep, 10)
    assert.same({}, joinall({ slow }, 0.001, true))
    slow:kill()
  end)

  it("counts a greenlet that is in the list twice two times", function()
    local g = spawn(sleep, 0.001)
    assert.same({ g, g }, joinall({ g, g }))
  end)

  it("leaves its argument as it was", function()
    local list = three()
    local copy = { table.unpack(list) }
    joinall(list)
    assert.same(copy, list)
  end)

  it("is interrupted by the caller's own Timeout", function()
    local g = spawn(sleep, 10)
    local timeout = moonlet.Timeout.start_new(0.001)
    assert.equal(timeout, support.error_of(joinall, { g }, 5))
    g:kill()
  end)
end)

describe("killall", function()
  it("raises in all of them before it waits", function()
    local seen = trace()
    local function body(name)
      local _ <close> = setmetatable({}, {
        __close = function()
          seen(name .. " dying")
          sleep(0.001)
          seen(name .. " dead")
        end,
      })
      sleep(10)
    end
    local a, b = spawn(body, "a"), spawn(body, "b")
    sleep(0)
    assert.is_true(killall({ a, b }))
    assert.equal("a dying b dying a dead b dead", tostring(seen))
    assert.is_true(a:dead() and b:dead())
  end)

  it("takes an error to raise", function()
    support.uncaught()
    local a, b = spawn(sleep, 10), spawn(sleep, 10)
    sleep(0)
    assert.is_true(killall({ a, b }, "problem"))
    assert.equal("problem", a.exception)
    assert.equal("problem", b.exception)
  end)

  it("gives nil, 'timeout' when not all are dead in time", function()
    local stubborn = spawn(function()
      support.error_of(sleep, 10)
      sleep(0.02)
    end)
    local meek = spawn(sleep, 10)
    sleep(0)
    assert.same({ n = 2, nil, "timeout" }, table.pack(killall({ stubborn, meek }, nil, 0.001)))
    assert.is_true(meek:dead())
    assert.is_false(stubborn:dead())
    stubborn:join()
  end)

  it("of greenlets that have not run yet keeps them from running, in any time", function()
    local ran = false
    local list = {}
    for i = 1, 3 do
      list[i] = spawn(function()
        ran = true
      end)
    end
    list[4] = moonlet.Greenlet(sleep)
    assert.is_true(killall(list, nil, 1))
    for _, g in ipairs(list) do
      assert.is_true(g:dead())
    end
    assert.is_false(ran)
  end)

  it("of dead ones and of none gives true", function()
    local g = spawn(sleep)
    g:join()
    assert.is_true(killall({ g }))
    assert.is_true(killall({}))
  end)
end)

describe("wait", function()
  it("returns the objects in the order in which they became ready", function()
    assert.same({ 3, 1, 2 }, values(wait(three())))
  end)

  it("takes greenlets, events, results, semaphores and queues alike", function()
    local e, r, s, q = event.Event(), event.AsyncResult(), lock.Semaphore(0), queue.Queue()
    local g = spawn(function()
      e:set()
      sleep(0)
      r:set(1)
      sleep(0)
      s:release()
      sleep(0)
      q:put(1)
      sleep(0)
    end)
    assert.same({ e, r, s, q, g }, wait({ g, q, s, r, e }))
  end)

  it("takes nothing from them", function()
    local s, q = lock.Semaphore(0), queue.Queue()
    spawn(function()
      s:release()
      q:put("item")
    end)
    assert.equal(2, #wait({ s, q }))
    assert.equal(1, s.counter)
    assert.equal("item", q:get(0))
  end)

  it("returns what is ready already, as often as it is asked", function()
    local e = event.Event()
    e:set()
    assert.same({ e }, wait({ e }))
    assert.same({ e }, wait({ e }))
  end)

  it("with timeout 0 returns what is ready", function()
    local yes, no = event.Event(), event.Event()
    yes:set()
    assert.same({ yes }, wait({ no, yes }, 0))
    assert.same({}, wait({ no }, 0))
    assert.same({}, wait({}, 0))
  end)

  it("returns those ready so far when the timeout passes", function()
    local yes, no = event.Event(), event.Event()
    spawn(yes.set, yes)
    assert.same({ yes }, testing.virtual_clock(wait, { no, yes }, 0.005))
  end)

  it("with a count returns as soon as so many are ready", function()
    testing.virtual_clock(function()
      local list = three()
      assert.same({ 3 }, values(wait(list, nil, 1)))
      assert.same({ 3, 1 }, values(wait(list, nil, 2)))
      joinall(list)
    end)
  end)

  it("takes a started Timeout as its timeout, and raises it", function()
    local timeout = moonlet.Timeout.start_new(0.001)
    assert.equal(timeout, support.error_of(wait, { event.Event() }, timeout))
  end)
end)

describe("iwait", function()
  it("gives the objects as they become ready", function()
    local seen = trace()
    for g in iwait(three()) do
      seen(g.value)
    end
    assert.equal("3 1 2", tostring(seen))
  end)

  it("gives those that are ready first, in the list's order", function()
    local a, b, c = spawn(sleep, 0.001), spawn(sleep), spawn(sleep)
    joinall({ b, c })
    local list = {}
    for g in iwait({ a, b, c }) do
      list[#list + 1] = g
    end
    assert.same({ b, c, a }, list)
  end)

  it("loses none when the loop's body blocks", function()
    local seen = trace()
    for g in iwait(three()) do
      seen(g.value)
      sleep(0.02)
    end
    assert.equal("3 1 2", tostring(seen))
  end)

  it("stops after count objects", function()
    local list, seen = three(), trace()
    for g in iwait(list, nil, 2) do
      seen(g.value)
    end
    assert.equal("3 1", tostring(seen))
    joinall(list)
  end)

  it("stops when the timeout passes", function()
    local quick, slow, seen = spawn(sleep, 0.001), spawn(sleep, 10), trace()
    testing.virtual_clock(function()
      for g in iwait({ slow, quick }, 0.03) do
        seen(g == quick)
      end
    end)
    assert.equal("true", tostring(seen))
    slow:kill()
  end)

  it("counts an object that is in the list twice two times", function()
    local g, count = spawn(sleep), 0
    for x in iwait({ g, g }) do
      assert.equal(g, x)
      count = count + 1
    end
    assert.equal(2, count)
  end)

  it("left by break or by an error leaves nothing registered", function()
    local list = three()
    for _ in iwait(list, 5) do -- luacheck: ignore 512
      break
    end
    support.error_of(function()
      for _ in iwait(list, 5) do
        error("on purpose")
      end
    end)
    joinall(list)
  end)

  it("may be used by several greenlets at once", function()
    local list, seen = three(), trace()
    local function consume()
      for g in iwait(list) do
        seen(g.value)
      end
    end
    joinall({ spawn(consume), spawn(consume) })
    assert.equal("3 3 1 1 2 2", tostring(seen))
  end)
end)

describe("wait without objects", function()
  it("returns true once nothing keeps the loop alive, again and again", function()
    support.unbounded()
    assert.is_true(wait())
    assert.is_true(wait())
    assert.is_true(wait(nil, 1))
  end)

  it("waits for greenlets that sleep and for what they spawn", function()
    support.unbounded()
    local seen = trace()
    spawn(function()
      sleep(0.002)
      seen("first")
      moonlet.spawn_later(0.002, seen, "second")
    end)
    assert.is_true(wait())
    assert.equal("first second", tostring(seen))
  end)

  it("waits for a pending Timeout", function()
    support.unbounded()
    local timeout = moonlet.Timeout.start_new(0.002)
    assert.equal(timeout, support.error_of(wait))
  end)

  it("does not wait for a greenlet that nothing can wake", function()
    support.unbounded()
    local g = spawn(event.Event().wait, event.Event())
    assert.is_true(wait())
    assert.is_false(g:ready())
    g:kill()
  end)

  it("does not wait for a signal handler", function()
    support.unbounded()
    local handler <close> = moonlet.signal("SIGUSR2", sleep)
    assert.is_true(wait())
    handler:cancel()
  end)

  it("returns false when the timeout passes first", function()
    support.unbounded()
    local g = spawn(sleep, 10)
    assert.is_false(wait(nil, 0.002))
    assert.is_false(wait(nil, 0))
    g:kill()
  end)

  it("is refused outside main", function()
    support.uncaught()
    local g = spawn(wait)
    g:join()
    assert.is_false(g:successful())
    assert.matches("main", tostring(g.exception))
  end)
end)
