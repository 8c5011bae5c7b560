-- Greenlets until their first turn is over: most end in it, and are kept alive in another way.
local moonlet = require "moonlet"

local spawn, sleep = moonlet.spawn, moonlet.sleep

-- Blocks where Lua cannot yield.
local function sleep_pinned()
  table.sort({ 2, 1 }, function(a, b)
    sleep(0)
    return a < b
  end)
end

local function sleep_briefly()
  sleep(0)
end

local function do_nothing() end

local function collected(weak)
  collectgarbage()
  collectgarbage()
  return next(weak) == nil
end

describe("a greenlet in its first turn", function()
  it("is what spawn returned, before and after it blocks", function()
    for _, block in ipairs { do_nothing, sleep_briefly, sleep_pinned } do
      local seen = {}
      local g
      g = spawn(function()
        seen[1] = moonlet.getcurrent()
        collectgarbage()
        block()
        collectgarbage()
        seen[2] = moonlet.getcurrent()
      end)
      g:join()
      assert.equal(g, seen[1])
      assert.equal(g, seen[2])
    end
  end)

  it("lives on though nobody else knows it", function()
    local ended = 0
    for i = 1, 50 do
      spawn(function(n)
        collectgarbage "step"
        if n % 3 == 0 then
          sleep(0)
        elseif n % 3 == 1 then
          sleep_pinned()
        end
        collectgarbage "step"
        ended = ended + 1
      end, i)
    end
    collectgarbage()
    while ended < 50 do
      sleep(0)
    end
  end)

  it("has its arguments until its end", function()
    for count = 0, 20 do
      local given, seen = { n = count }, {}
      for i = 1, count, 2 do
        given[i] = { i }
      end
      local g = spawn(function(...)
        seen[1] = table.pack(...)
        seen[2] = moonlet.getcurrent().args
        sleep(0)
        collectgarbage()
        seen[3] = moonlet.getcurrent().args
      end, table.unpack(given, 1, count))
      seen[4] = g.args
      g:join()
      for i = 1, 4 do
        assert.same(given, seen[i])
      end
      assert.is_nil(g.args)
    end
  end)

  it("lets go of its arguments and its function at the end", function()
    for _, block in ipairs { do_nothing, sleep_briefly } do
      local weak, list = setmetatable({}, { __mode = "k" }), {}
      for count = 1, 20 do
        local given = {}
        for i = 1, count do
          given[i] = {}
          weak[given[i]] = true
        end
        local function body()
          block()
        end
        weak[body] = true
        list[count] = spawn(body, table.unpack(given))
      end
      moonlet.joinall(list)
      sleep(0)
      assert.is_true(collected(weak))
      assert.equal(20, #list)
    end
  end)

  it("can fail, and block in its <close> variables", function()
    local order = {}
    local g = spawn(function()
      local _ <close> = setmetatable({}, {
        __close = function()
          sleep(0)
          collectgarbage()
          order[#order + 1] = moonlet.getcurrent()
        end,
      })
      error("on purpose")
    end)
    local other = spawn(function()
      order[#order + 1] = "other"
    end)
    local was = moonlet.set_error_handler(function() end)
    moonlet.joinall { g, other }
    moonlet.set_error_handler(was)
    assert.same({ "other", g }, order)
    assert.is_false(g:successful())
  end)
end)

describe("many greenlets spawned at once", function()
  it("run in order with their arguments, however many they are", function()
    local order, list = {}, {}
    for i = 1, 5000 do
      list[i] = spawn(function(...)
        order[#order + 1] = (...)
        return select("#", ...), ...
      end, i, nil)
    end
    moonlet.joinall(list)
    for i = 1, 5000 do
      assert.equal(i, order[i])
      local count, first = list[i]:get()
      assert.equal(2, count)
      assert.equal(i, first)
    end
  end)

  it("may be killed before they run, and be no more", function()
    local ran, weak = 0, setmetatable({}, { __mode = "k" })
    local list = {}
    for i = 1, 3000 do
      list[i] = spawn(function()
        ran = ran + 1
      end)
      weak[list[i]] = true
    end
    for i = 1, 3000, 2 do
      moonlet.kill(list[i])
    end
    moonlet.joinall(list)
    assert.equal(1500, ran)
    list = nil -- luacheck: ignore 311
    assert.is_true(collected(weak))
  end)
end)

describe("greenlets that go on spawning", function()
  it("are collected one after another", function()
    local weak, spawned, most = setmetatable({}, { __mode = "k" }), 0, 0
    local function body()
      spawned = spawned + 1
      if spawned % 5000 == 0 then
        collectgarbage()
        collectgarbage()
        local alive = 0
        for _ in pairs(weak) do
          alive = alive + 1
        end
        most = math.max(most, alive)
      end
      if spawned < 40000 then
        weak[spawn(body)] = true
      end
    end
    for _ = 1, 3 do
      weak[spawn(body)] = true
    end
    while spawned < 40002 do
      sleep(0)
    end
    assert.is_true(most < 4000, most .. " were alive at once")
    assert.is_true(collected(weak))
  end)
end)
