local moonlet = require "moonlet"
local event = require "moonlet.event"
local pool = require "moonlet.pool"
local support = require "support"

local Group, Pool = pool.Group, pool.Pool

local function double(x)
  moonlet.sleep(0)
  return x * 2
end

-- A function that returns x after so many turns, so that the last of a list is done first.
local function reversed(n)
  return function(x)
    support.turns(2 * (n - x) + 1)
    return x
  end
end

local function collect(iterator, ...)
  local list = {}
  for result in iterator, ... do
    list[#list + 1] = result
  end
  return list
end

describe("moonlet.pool map", function()
  it("returns the results in the order of the input, whatever ends first", function()
    assert.same({ 1, 2, 3 }, Group():map(reversed(3), { 1, 2, 3 }))
    assert.same({ 2, 4, 6 }, Pool(2):map(double, { 1, 2, 3 }))
  end)

  it("returns an empty list for an empty one", function()
    assert.same({}, Group():map(double, {}))
    assert.same({}, Pool(1):map(double, function() end))
  end)

  it("takes an iterator function for its list", function()
    local words = Group():map(string.upper, ("a b c"):gmatch("%a"))
    assert.same({ "A", "B", "C" }, words)
  end)

  it("of a Group starts all before any runs", function()
    local group, seen = Group(), support.trace()
    group:map(function()
      seen(#group)
      moonlet.sleep(0)
    end, { 1, 2, 3 })
    assert.equal("3 3 3", tostring(seen))
  end)

  it("of a Pool keeps to its size, as the tutorial shows", function()
    local p, seen = Pool(2), support.trace()
    p:map(function() seen(#p) end, { 1, 2, 3 })
    assert.equal("2 2 1", tostring(seen))
  end)

  it("raises the first failure in the order of the input; the others go on", function()
    support.uncaught()
    local group, seen = Group(), support.trace()
    local function f(x)
      support.turns(x == 1 and 4 or x == 3 and 8 or 1)
      if x < 3 then
        error("failed " .. x, 0)
      end
      seen("done", x)
    end
    assert.equal("failed 1", support.error_of(group.map, group, f, { 1, 2, 3 }))
    assert.equal("", tostring(seen))
    group:join()
    assert.equal("done 3", tostring(seen))
  end)

  it("refuses what is no function and what is no list, by name and number", function()
    local group = Group()
    assert.matches("bad argument #1 to 'map'", support.error_of(function() group:map(5, {}) end))
    assert.matches("bad argument #2 to 'map'",
                   support.error_of(function() group:map(print, 5) end))
  end)

  it("leaves its members killable, and itself interruptible by a Timeout", function()
    local group = Group()
    local r, message = moonlet.with_timeout(0.001, group.map, group, moonlet.sleep, { 5, 5 })
    assert.is_nil(r)
    assert.equal("timeout", message)
    assert.is_true(group:kill())
  end)
end)

describe("moonlet.pool map_async", function()
  it("returns a Greenlet at once, whose value is the list of results", function()
    local p, seen = Pool(2), support.trace()
    local g = p:map_async(function(x)
      seen(x)
      return double(x)
    end, { 1, 2, 3 })
    assert.is_true(g:is(moonlet.Greenlet))
    assert.equal("", tostring(seen))
    assert.same({ 2, 4, 6 }, g:get())
  end)

  it("calls the callback with the list", function()
    local group, got = Group(), event.AsyncResult()
    local g = group:map_async(double, { 1, 2 }, function(list) got:set(list) end)
    assert.same({ 2, 4 }, got:get())
    g:join()
  end)

  it("is stopped by kill of the pool, and starts no more workers", function()
    local p, started = Pool(1), 0
    local g = p:map_async(function()
      started = started + 1
      moonlet.sleep(5)
    end, { 1, 2, 3 })
    support.turns()
    assert.is_true(p:kill())
    support.turns()
    assert.equal(1, started)
    assert.equal(0, #p)
    g:join()
  end)
end)

describe("moonlet.pool apply", function()
  it("runs f with the list of arguments and returns its result", function()
    local group = Group()
    assert.equal(7, group:apply(math.max, { 3, 7 }))
    assert.equal("no arguments", group:apply(function() return "no arguments" end))
    assert.equal(0, #group)
  end)

  it("raises f's error", function()
    support.uncaught()
    local p, err = Pool(1), { "bad" }
    assert.equal(err, support.error_of(p.apply, p, error, { err }))
    assert.equal(1, p:free_count())
  end)

  it("waits for a free slot", function()
    local p, e = Pool(1), event.Event()
    p:spawn(e.wait, e)
    local setter = moonlet.spawn_later(0.001, e.set, e)
    assert.equal(1, p:apply(math.abs, { -1 }))
    setter:join()
  end)

  it("called by a member runs f in place, so that a Pool of 1 does not lock up", function()
    local p = Pool(1)
    local inner, outer = p:apply(function()
      local me = moonlet.getcurrent()
      return p:apply(moonlet.getcurrent), me
    end)
    assert.equal(outer, inner)
    assert.is_true(inner:is(moonlet.Greenlet))
  end)
end)

describe("moonlet.pool apply_async", function()
  it("returns a Greenlet at once, whose value is f's result", function()
    local group = Group()
    local g = group:apply_async(double, { 4 })
    assert.is_false(g:ready())
    assert.equal(8, g:get())
  end)

  it("calls the callback with the result, but not after a failure", function()
    support.uncaught()
    local group, seen = Group(), support.trace()
    group:apply_async(double, { 4 }, seen)
    group:apply_async(error, { "bad" }, seen)
    group:join()
    support.turns()
    assert.equal("8", tostring(seen))
  end)
end)

describe("moonlet.pool imap", function()
  it("gives the results in the order of the input", function()
    assert.same({ 1, 2, 3 }, collect(Group():imap(reversed(3), { 1, 2, 3 })))
    assert.same({ 2, 4, 6 }, collect(Pool(1):imap(double, { 1, 2, 3 })))
  end)

  it("gives all the results of each call", function()
    local seen = support.trace()
    for a, b, c in Group():imap(function(x) return x, nil, -x end, { 1, 2 }) do
      seen(a, b, c)
    end
    assert.equal("1 nil -1 2 nil -2", tostring(seen))
  end)

  it("gives false as a result like any other", function()
    assert.same({ false, true, false },
                collect(Group():imap(function(x) return x == 2 end, { 1, 2, 3 })))
  end)

  it("ends at once for an empty list", function()
    assert.same({}, collect(Group():imap(double, {})))
    assert.same({}, collect(Group():imap_unordered(double, {})))
  end)

  it("takes an iterator function, of which it asks no more than it may be ahead", function()
    local asked = 0
    local function numbers()
      asked = asked + 1
      return asked
    end
    local group = Group()
    local results = group:imap(double, numbers, 2)
    assert.equal(2, results())
    assert.equal(4, results())
    support.turns(10)
    assert.is_true(asked <= 6)
    group:kill()
  end)

  it("starts working at the call, not at the first result asked for", function()
    local group, seen = Group(), support.trace()
    local results = group:imap(seen, { 1, 2 })
    support.turns(5)
    assert.equal("1 2", tostring(seen))
    assert.is_nil(results())
  end)

  it("is at most maxsize results ahead of its consumer", function()
    for _, name in ipairs { "imap", "imap_unordered" } do
      local started = 0
      local function f(x)
        started = started + 1
        return x
      end
      local group = Group()
      local results = group[name](group, f, { 1, 2, 3, 4, 5, 6 }, 2)
      support.turns(10)
      assert.equal(2, started)
      for taken = 1, 6 do
        assert.equal(taken, results())
        support.turns(10)
        assert.is_true(started <= taken + 2)
        assert.is_true(started >= math.min(6, taken + 1))
      end
      assert.is_nil(results())
    end
  end)

  it("raises f's failure where its result would be, and goes on with the rest", function()
    support.uncaught()
    local group = Group()
    local results = group:imap(function(x)
      if x == 2 then
        error("failed", 0)
      end
      return x
    end, { 1, 2, 3 })
    assert.equal(1, results())
    assert.equal("failed", support.error_of(results))
    assert.equal(3, results())
    assert.is_nil(results())
    assert.is_nil(results())
  end)

  it("raises an error of the input iterator to the consumer", function()
    support.uncaught()
    for _, name in ipairs { "imap", "imap_unordered" } do
      local n = 0
      local function numbers()
        n = n + 1
        if n > 2 then
          error("no more", 0)
        end
        return n
      end
      local group = Group()
      local err = support.error_of(function()
        collect(group[name](group, double, numbers))
      end)
      assert.equal("no more", err)
      group:join()
    end
  end)

  it("lets the input iterator block", function()
    local function numbers(n)
      return function()
        moonlet.sleep(0)
        n = n - 1
        return n > 0 and n or nil
      end
    end
    assert.same({ 4, 2 }, collect(Group():imap(double, numbers(3))))
  end)

  it("blocks while the Pool is full of others", function()
    local p, e = Pool(1), event.Event()
    p:spawn(e.wait, e)
    local results = p:imap(double, { 1 })
    local setter = moonlet.spawn_later(0.001, e.set, e)
    assert.equal(2, results())
    assert.is_nil(results())
    setter:join()
  end)

  it("is stopped by kill of its group, which leaves nothing behind", function()
    for _, name in ipairs { "imap", "imap_unordered" } do
      local group = Group()
      local results = group[name](group, double, { 1, 2, 3, 4 }, 1)
      assert.equal(2, results())
      assert.is_true(group:kill())
      assert.equal(0, #group)
    end
  end)

  it("refuses what is no function and what is no list, by name and number", function()
    local group = Group()
    assert.matches("bad argument #1 to 'imap'",
                   support.error_of(function() group:imap(5, {}) end))
    assert.matches("bad argument #2 to 'imap'",
                   support.error_of(function() group:imap(print, 5) end))
    assert.matches("bad argument #1 to 'imap_unordered'",
                   support.error_of(function() group:imap_unordered(5, {}) end))
  end)
end)

describe("moonlet.pool imap_unordered", function()
  it("gives the results in the order of completion", function()
    assert.same({ 3, 2, 1 }, collect(Group():imap_unordered(reversed(3), { 1, 2, 3 })))
  end)

  it("is as deterministic as its functions are", function()
    local function run()
      return collect(Pool(10):imap_unordered(function(x)
        moonlet.sleep(0)
        return x
      end, { 0, 1, 2, 3, 4, 5, 6, 7, 8, 9 }))
    end
    local first = run()
    assert.same({ 0, 1, 2, 3, 4, 5, 6, 7, 8, 9 }, first)
    assert.same(first, run())
  end)

  it("raises a failure where it is done, and goes on with the rest", function()
    support.uncaught()
    local results = Group():imap_unordered(function(x)
      if x == 2 then
        error("failed", 0)
      end
      moonlet.sleep(0)
      return x
    end, { 1, 2, 3 })
    assert.equal("failed", support.error_of(results))
    assert.equal(1, results())
    assert.equal(3, results())
    assert.is_nil(results())
  end)

  it("serves several consumers, each result once", function()
    local list = {}
    for i = 1, 20 do
      list[i] = i
    end
    local results, sum = Pool(3):imap_unordered(double, list), 0
    local consumers = Group()
    for _ = 1, 2 do
      consumers:spawn(function()
        for result in results do
          sum = sum + result
        end
      end)
    end
    consumers:join()
    assert.equal(420, sum)
  end)
end)
