-- What pools of threads and pools of processes have in common.

local Pool = require("moonlet.processpool").Pool
local ThreadPool = require("moonlet.threadpool").ThreadPool
local moonlet = require "moonlet"
local support = require "support"
local workers = require "support.workers"

local block, double, numbers = workers.block, workers.double, workers.numbers

local function behave_like_a_pool(make)
  local pool

  before_each(function()
    pool = make(2)
  end)

  -- At its end a spec's pool has no workers left.
  after_each(function()
    pool:kill()
    pool.size = 0
    support.eventually(function()
      return pool.size == 0
    end)
  end)

  describe("spawn", function()
    it("returns a Greenlet at once, which ends with the function's results", function()
      local greenlet = pool:spawn(function(...)
        return select("#", ...), ...
      end, 1, nil, "x", nil)
      assert.truthy(greenlet:is(moonlet.Greenlet))
      assert.is_false(greenlet:ready())
      assert.same({ n = 5, 4, 1, nil, "x", nil }, table.pack(greenlet:get()))
    end)

    it("lets others run meanwhile", function()
      local gate <close> = workers.gate()
      local greenlet = block(pool, gate, "done")
      support.turns(50)
      gate:await()
      assert.is_false(greenlet:ready())
      gate:open()
      assert.equal("done", greenlet:get())
    end)

    it("begins before the caller blocks", function()
      local gate <close> = workers.gate()
      pool:apply(double, { 1 }) -- a worker is there now
      local greenlet = block(pool, gate, "done")
      local limit = support.clock() + 20
      while not gate:has_begun() and support.clock() < limit do
        support.spin(0.001)
      end
      assert.is_true(gate:has_begun())
      gate:open()
      greenlet:join()
    end)

    it("takes one task more than there are workers, and then blocks", function()
      local gate <close> = workers.gate()
      local greenlets = { block(pool, gate, 1), block(pool, gate, 2), block(pool, gate, 3) }
      assert.is_true(pool:full())
      assert.equal(3, #pool)
      assert.is_false(pool:wait_available(0.001))
      local fourth
      local spawner = moonlet.spawn(function()
        fourth = pool:spawn(double, 4)
      end)
      support.turns()
      gate:await()
      assert.is_nil(fourth)
      gate:open()
      spawner:join()
      assert.equal(8, fourth:get())
      for i, greenlet in ipairs(greenlets) do
        assert.equal(i, greenlet:get())
      end
    end)

    it("can be killed while it blocks", function()
      local gate <close> = workers.gate()
      local greenlets = { block(pool, gate), block(pool, gate), block(pool, gate) }
      local spawner = moonlet.spawn(pool.spawn, pool, double, 1)
      support.turns()
      assert.is_true(spawner:kill())
      gate:open()
      moonlet.joinall(greenlets)
      pool:join()
      assert.equal(3, pool:free_count())
    end)

    it("refuses what is not a function of Lua that stands alone", function()
      local other, helper = { print }, function() end
      for expected, f in pairs {
        ["bad argument #1 to 'spawn' (functions in C cannot be sent)"] = print,
        ["bad argument #1 to 'spawn' (function expected, got table)"] = {},
        ["bad argument #1 to 'spawn' (its upvalue 'other' cannot be sent: define or require it"] =
          function() return other end,
        ["(its upvalue 'helper' cannot be sent: define or require it inside)"] =
          function() return helper() end,
      } do
        local err = support.error_of(pool.spawn, pool, f)
        assert.truthy(err:find(expected, 1, true), err)
      end
      assert.truthy(support.error_of(pool.spawn, pool):find("got no value", 1, true))
      assert.equal(3, pool:free_count())
    end)

    it("copies the data that a function refers to, each time as they are", function()
      local n, list, none = 1, { "a", { 2.5 } }, nil
      local function f(argument)
        n = n + 1
        return n, list[1], list[2][1], none, argument, math.type(n)
      end
      assert.same({ 2, "a", 2.5, nil, "x", "integer" }, { pool:apply(f, { "x" }) })
      assert.same({ 2, "a", 2.5, nil, "x", "integer" }, { pool:apply(f, { "x" }) })
      assert.equal(1, n)
      n, none = 7, false
      assert.same({ 8, "a", 2.5, false, nil, "integer" }, { pool:apply(f) })
      assert.same({ 8, 9, 10 }, pool:map(function(x) return x + n end, { 1, 2, 3 }))
    end)

    it("takes functions that call themselves, and those without debug information", function()
      assert.equal(55, pool:apply(workers.fibonacci, { 10 }))
      local stripped = load(string.dump(function(n)
        return math.type(n)
      end, true))
      assert.equal("integer", pool:apply(stripped, { 1 }))
    end)
  end)

  describe("a worker's state", function()
    it("keeps globals, and has the library and the paths of modules", function()
      package.path = package.path .. ";no/such/?.lua"
      local one = make(1)
      one:apply(function()
        _G.kept = 42
      end)
      local path, has_io, kept_there = one:apply(function()
        return package.path, io ~= nil, _G.kept
      end)
      package.path = package.path:gsub(";no/such/%?.lua$", "")
      assert.truthy(path:find(";no/such/?.lua", 1, true))
      assert.is_true(has_io)
      assert.equal(42, kept_there)
      assert.is_nil(rawget(_G, "kept"))
      one:kill()
      one.size = 0
    end)

    it("may have a runtime of its own", function()
      assert.equal(6, pool:apply(function()
        local there = require "moonlet"
        local Group = require("moonlet.pool").Group
        local sum = 0
        for n in Group():imap_unordered(function(n)
          table.sort({ 1, 2 }, function(a, b)
            there.sleep(0.001) -- where Lua cannot yield
            return a < b
          end)
          return n
        end, { 1, 2, 3 }) do
          sum = sum + n
        end
        return sum
      end))
    end)
  end)

  describe("an error in a worker", function()
    it("is raised by get, with the traceback of where it was raised", function()
      local errors = support.uncaught()
      local greenlet = pool:spawn(function()
        local function inner()
          error("broken")
        end
        inner()
      end)
      local err = support.error_of(greenlet.get, greenlet)
      assert.truthy(err:find("workers_spec.lua:%d+: broken$"), err)
      assert.equal(err, greenlet.exception)
      assert.truthy(greenlet.traceback:find("in upvalue 'inner'", 1, true) or
                    greenlet.traceback:find("in local 'inner'", 1, true), greenlet.traceback)
      assert.truthy(greenlet.traceback:find("(in a worker)", 1, true))
      support.eventually(function()
        return #errors == 1
      end)
      assert.equal(greenlet.traceback, errors[1].traceback)
    end)

    it("may be any value that can be sent, else its text", function()
      support.uncaught()
      local function raised(err)
        return support.error_of(pool.apply, pool, workers.fail, { err })
      end
      assert.same({ code = 7 }, raised({ code = 7 }))
      assert.equal(false, raised(false))
      assert.is_nil(raised(nil))
      assert.equal("its text", support.error_of(pool.apply, pool, function()
        error(setmetatable({}, { __tostring = function() return "its text" end }))
      end))
      assert.truthy(support.error_of(pool.apply, pool, function()
        error(print)
      end):find("^function: "))
      assert.equal("no text", support.error_of(pool.apply, pool, function()
        error(setmetatable({}, { __tostring = function() error("no text", 0) end }))
      end))
    end)

    it("comes of a result that cannot be sent", function()
      support.uncaught()
      assert.equal("result 2: value at .f: functions cannot be sent",
                   support.error_of(pool.apply, pool, function()
                     return 1, { f = print }
                   end))
    end)

    it("leaves the worker in order", function()
      support.uncaught()
      local one <close> = make(1)
      one:apply(function()
        _G.kept = 42
      end)
      local err = support.error_of(one.apply, one, function()
        local function deeper()
          return deeper() + 1
        end
        return deeper()
      end)
      assert.truthy(err:find("stack overflow", 1, true), err)
      assert.equal(42, one:apply(function()
        return _G.kept
      end))
    end)
  end)

  describe("apply", function()
    it("takes a list of arguments and returns all results", function()
      assert.same({ 2 }, { pool:apply(double, { 1 }) })
      assert.same({ n = 2, nil, nil }, table.pack(pool:apply(function(...)
        return ...
      end, { n = 2 })))
      local err = support.error_of(pool.apply, pool, double, 1)
      assert.truthy(err:find("#2 to 'apply' (table expected, got number)", 1, true), err)
    end)

    it("is given up at a Timeout at once", function()
      local gate <close> = workers.gate()
      assert.same({ nil, "timeout" },
                  { moonlet.with_timeout(0.01, pool.apply, pool, workers.pass,
                                         { gate.closed, gate.begun }) })
      gate:open()
      assert.is_true(pool:join())
    end)

    it("has an asynchronous form, with a callback", function()
      local got
      local greenlet = pool:apply_async(double, { 4 }, function(result)
        got = result
      end)
      assert.equal(8, greenlet:get())
      support.eventually(function()
        return got == 8
      end)
    end)
  end)

  describe("map", function()
    it("gives the results in the order of the list", function()
      local doubled = {}
      for i = 1, 50 do
        doubled[i] = 2 * i
      end
      assert.same(doubled, pool:map(double, numbers(50)))
      assert.same({}, pool:map(double, {}))
      assert.same({ 2, 4 }, pool:map_async(double, { 1, 2 }):get())
    end)

    it("raises the first failure in the order of the list", function()
      support.uncaught()
      assert.equal("odd: 1", support.error_of(pool.map, pool, workers.odd, { 1, 2, 3, 4 }))
      pool:join()
    end)

    it("is given up by a kill; the other tasks go on", function()
      local gate <close> = workers.gate()
      local mapper = moonlet.spawn(pool.map, pool, workers.hold, { gate.closed, gate.closed })
      support.eventually(function()
        return #pool == 2
      end)
      assert.is_true(mapper:kill())
      gate:open()
      assert.is_true(pool:join())
    end)
  end)

  describe("imap", function()
    it("gives the results in order, and imap_unordered as they come", function()
      local results = {}
      for n in pool:imap(double, numbers(20)) do
        results[#results + 1] = n
      end
      assert.same(pool:map(double, numbers(20)), results)
      results = {}
      for n in pool:imap_unordered(double, numbers(20)) do
        results[#results + 1] = n
      end
      table.sort(results)
      assert.same(pool:map(double, numbers(20)), results)
    end)

    it("raises a failure in its place and goes on", function()
      support.uncaught()
      local next_result = pool:imap(workers.odd, { 1, 2, 3 })
      assert.equal("odd: 1", support.error_of(next_result))
      assert.equal(2, next_result())
      assert.equal("odd: 3", support.error_of(next_result))
      assert.is_nil(next_result())
    end)
  end)

  describe("join", function()
    it("waits for all tasks, or for a time", function()
      local gate <close> = workers.gate()
      assert.is_true(pool:join())
      block(pool, gate)
      assert.is_false(pool:join(0.01))
      assert.is_false(pool:join(0))
      gate:open()
      assert.is_true(pool:join())
      assert.equal(0, #pool)
    end)

    it("raises the first failure if asked to", function()
      support.uncaught()
      pool:spawn(workers.fail, "broken")
      assert.equal("broken", support.error_of(pool.join, pool, nil, true))
    end)
  end)

  describe("kill", function()
    it("keeps tasks that have not begun from beginning", function()
      local gate <close> = workers.gate()
      local second <close> = workers.gate()
      local one = make(1)
      local running = block(one, gate)
      local waiting = block(one, second)
      gate:await()
      assert.is_true(waiting:kill())
      support.eventually(function()
        return one:free_count() == 1
      end)
      assert.is_true((one:kill()))
      assert.is_true(running:dead() and running:successful())
      gate:open()
      assert.is_true(one:join())
      assert.equal(8, one:apply(double, { 4 }))
      assert.is_false(second:has_begun())
      one.size = 0
    end)

    it("does nothing twice, or to an idle pool", function()
      assert.same({ true, 0 }, { pool:kill() })
      assert.same({ true, 0 }, { pool:kill(nil, 1) })
      assert.equal(2, pool:apply(double, { 1 }))
    end)

    it("stops feeders of imap", function()
      local gate <close> = workers.gate()
      local fed = 0
      local _ = pool:imap(workers.hold, function()
        fed = fed + 1
        return gate.closed
      end)
      support.eventually(function()
        return fed > 1
      end)
      pool:kill()
      local before = fed
      support.turns()
      gate:open()
      pool:join()
      assert.equal(before, fed)
    end)
  end)

  describe("maxsize", function()
    it("can be raised: blocked callers of spawn go on", function()
      local gate <close> = workers.gate()
      local greenlets = { block(pool, gate), block(pool, gate), block(pool, gate) }
      local done
      local spawner = moonlet.spawn(function()
        pool:spawn(double, 1):get()
        done = true
      end)
      support.turns()
      assert.is_nil(done)
      pool.maxsize = 4
      spawner:join()
      assert.is_true(done)
      assert.equal(4, pool.maxsize)
      gate:open()
      moonlet.joinall(greenlets)
    end)

    it("can be lowered: workers leave, and fewer tasks are taken", function()
      pool.size = 2
      assert.equal(2, pool.size)
      pool.maxsize = 1
      support.eventually(function()
        return pool.size == 1
      end)
      assert.equal(2, pool:free_count())
      assert.equal(2, pool:apply(double, { 1 }))
    end)

    it("can be lowered and raised while tasks run", function()
      local gate <close> = workers.gate()
      local greenlets = { block(pool, gate, 1), block(pool, gate, 2), block(pool, gate, 3) }
      pool.maxsize = 0
      assert.equal(0, pool:free_count())
      pool.maxsize = 1
      gate:open()
      for i, greenlet in ipairs(greenlets) do
        assert.equal(i, greenlet:get())
      end
      pool:join()
      assert.equal(2, pool:free_count())
      support.eventually(function()
        return pool.size <= 1
      end)
    end)

    it("must be an integer that is not negative, and so must size", function()
      for name, value in pairs { maxsize = -1, size = -1 } do
        local err = support.error_of(function()
          pool[name] = value
        end)
        assert.truthy(err:find("'" .. name .. "' (must not be negative)", 1, true), err)
      end
      local err = support.error_of(function()
        pool.size = 3
      end)
      assert.truthy(err:find("bad value for 'size' (must not be over 2)", 1, true), err)
      err = support.error_of(function()
        local made = make(-1)
        return made
      end)
      assert.truthy(err:find("spec.lua:%d+: bad argument #1 to '%a+' %(must not be neg"), err)
      err = support.error_of(make, "2")
      assert.truthy(err:find("bad argument #1 to '%a+' %(integer expected, got string%)"), err)
    end)
  end)

  it("keeps count when a member is discarded, or another greenlet added", function()
    local gate <close> = workers.gate()
    local greenlet = block(pool, gate, "done")
    pool:discard(greenlet)
    assert.equal(2, pool:free_count())
    local other = moonlet.spawn(moonlet.sleep, 0.01)
    assert.is_true(pool:add(other))
    assert.equal(1, pool:free_count())
    gate:open()
    assert.equal("done", greenlet:get())
    assert.is_true(pool:join())
    assert.equal(3, pool:free_count())
  end)

  it("tells its state", function()
    assert.truthy(tostring(pool):match("^<%a+: 0 of 2 workers, 0 tasks>$"), tostring(pool))
    pool:apply(double, { 1 })
    assert.truthy(tostring(pool):match("^<%a+: 1 of 2 workers, 0 tasks>$"), tostring(pool))
  end)

  it("is joined by a block that ends well, and killed by one that fails", function()
    local gate <close> = workers.gate()
    local greenlet
    do
      local scoped <close> = make(1)
      greenlet = scoped:spawn(double, 4)
    end
    assert.equal(8, greenlet.value)
    support.error_of(function()
      local scoped <close> = make(1)
      greenlet = block(scoped, gate)
      gate:await()
      error("out")
    end)
    assert.is_true(greenlet:dead())
    gate:open()
  end)

  it("can have subclasses", function()
    local class = getmetatable(pool):extend("Special")
    function class:new(size, label)
      class.super.new(self, size)
      self.label = label
    end
    local special <close> = class(1, "mine")
    assert.equal("mine", special.label)
    assert.equal(1, special.maxsize)
    assert.equal(2, special:apply(double, { 1 }))
    assert.truthy(tostring(special):match("^<Special: "))
  end)
end

for _, class in ipairs { ThreadPool, Pool } do
  describe(("a %s of %s"):format(tostring(class):match("%w+$"),
                                 class == Pool and "processes" or "threads"), function()
    behave_like_a_pool(class)
  end)
end
