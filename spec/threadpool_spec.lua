local ThreadPool = require("moonlet.threadpool").ThreadPool
local moonlet = require "moonlet"
local support = require "support"
local workers = require "support.workers"

local block, double = workers.block, workers.double

local function threads()
  local file <close> = assert(io.open("/proc/self/status"))
  return tonumber(file:read("a"):match("Threads:%s*(%d+)"))
end

describe("moonlet.threadpool", function()
  it("starts threads when they are needed, and no more than that", function()
    local pool <close> = ThreadPool(4)
    assert.equal(0, pool.size)
    pool:apply(double, { 1 })
    assert.equal(1, pool.size)
    local gate <close> = workers.gate()
    local greenlets = { block(pool, gate), block(pool, gate), block(pool, gate) }
    assert.truthy(pool.size >= 3) -- 4 if the first thread was not idle yet
    gate:open()
    moonlet.joinall(greenlets)
  end)

  it("ends a thread after some time without work", function()
    local pool <close> = ThreadPool(2, 0.02)
    pool:apply(double, { 1 })
    support.eventually(function()
      return pool.size == 0
    end)
    assert.equal(4, pool:apply(double, { 2 }))
    local patient <close> = ThreadPool(1, math.huge)
    patient:apply(double, { 1 })
    moonlet.sleep(0.05)
    assert.equal(1, patient.size)
    for _, idle in ipairs { "long", -1, 0 / 0 } do
      local err = support.error_of(ThreadPool, 1, idle)
      assert.truthy(err:find("bad argument #2 to 'ThreadPool'", 1, true), err)
    end
  end)

  it("does ten tasks that wait at the same time", function()
    local pool <close> = ThreadPool(10)
    local begun = support.clock()
    pool:map(function()
      os.execute("sleep 0.1")
    end, workers.numbers(10))
    assert.truthy(support.clock() - begun < 0.9)
  end)

  it("ends its threads with a block", function()
    local before = threads()
    do
      local pool <close> = ThreadPool(3)
      pool.size = 3
      assert.equal(before + 3, threads())
    end
    assert.equal(before, threads())
  end)

  it("ends its threads when it is collected", function()
    collectgarbage()
    collectgarbage()
    local before = threads()
    do
      local pool = ThreadPool(3)
      pool.size = 3
      pool:apply(double, { 1 })
    end
    support.eventually(function()
      collectgarbage()
      return threads() == before
    end)
  end)

  describe("a task at work", function()
    it("goes on when its greenlet is killed, keeps its slot, and its result is dropped", function()
      local pool <close> = ThreadPool(1)
      local gate <close> = workers.gate()
      local greenlet = block(pool, gate, "dropped")
      gate:await()
      assert.is_true(greenlet:kill())
      assert.is_true(greenlet.value:is(moonlet.GreenletExit))
      support.turns()
      assert.equal(1, pool:free_count())
      assert.equal(1, #pool)
      assert.is_false(pool:join(0.01))
      local next_one = pool:spawn(double, 2)
      gate:open()
      assert.equal(4, next_one:get())
      assert.is_true(pool:join())
      assert.equal(2, pool:free_count())
    end)

    it("is one that kill tells it cannot stop", function()
      local pool <close> = ThreadPool(2)
      local gate <close> = workers.gate()
      local never <close> = workers.gate()
      block(pool, gate)
      gate:await()
      os.remove(gate.begun)
      block(pool, gate)
      gate:await()
      block(pool, never)
      assert.same({ true, 2 }, { pool:kill() })
      gate:open()
      pool:join()
      assert.is_false(never:has_begun())
    end)

    it("keeps its thread beyond a pool that is closed by an error", function()
      local gate <close> = workers.gate()
      support.error_of(function()
        local pool <close> = ThreadPool(2)
        block(pool, gate)
        gate:await()
        error("out")
      end)
      local meanwhile = threads()
      gate:open()
      support.eventually(function()
        return threads() < meanwhile
      end)
    end)

    it("cannot end the program", function()
      support.uncaught()
      local pool <close> = ThreadPool(1)
      local err = support.error_of(pool.apply, pool, function()
        os.exit(3)
      end)
      assert.truthy(err:find("os.exit in a thread would end the whole program", 1, true), err)
    end)
  end)

  it("gives each thread a state of its own", function()
    local pool <close> = ThreadPool(2)
    local gates <close> = workers.gate()
    local first = pool:spawn(function(closed)
      _G.mark = 1
      while io.open(closed) do
        require("moonlet").sleep(0.001)
      end
      return _G.mark
    end, gates.closed)
    local second = pool:spawn(function()
      return _G.mark
    end)
    assert.is_nil(second:get())
    gates:open()
    assert.equal(1, first:get())
  end)

  describe("at the end of the program", function()
    local function ends(code)
      local begun = support.clock()
      local result = support.run_script([[
        local moonlet = require "moonlet"
        local ThreadPool = require("moonlet.threadpool").ThreadPool
        local pool = ThreadPool(3)
        local function compute() while true do end end
        local function wait() require("moonlet").sleep(3600) end
        local function block() os.execute("sleep 3600 & wait") end
        local function recurse() return pcall(string.rep, "x", -1), recurse() end
      ]] .. code)
      assert.equal("", result.stderr)
      assert.equal(0, result.status)
      assert.equal("end\n", result.stdout)
      assert.truthy(support.clock() - begun < 10)
    end

    it("threads at work do not hold it up", function()
      ends [[
        for _, f in ipairs { compute, wait, compute } do pool:spawn(f) end
        moonlet.sleep(0.05)
        print "end"
      ]]
    end)

    it("nor do those whose greenlets were killed, or tasks that wait for their turn", function()
      ends [[
        pool:spawn(compute)
        local killed = pool:spawn(compute)
        pool:spawn(wait)
        pool:spawn(compute)
        moonlet.sleep(0.05)
        killed:kill()
        moonlet.spawn(pool.spawn, pool, compute)
        moonlet.sleep(0)
        print "end"
      ]]
    end)

    it("nor does os.exit, whether it closes the state or not", function()
      for _, call in ipairs { "os.exit(0)", "os.exit(0, true)" } do
        ends([[
          pool:spawn(compute) pool:spawn(wait)
          moonlet.sleep(0.05)
          print "end"
        ]] .. call)
      end
    end)
  end)
end)
