local moonlet = require "moonlet"
local queue = require "moonlet.queue"
local support = require "support"

local KINDS = { "Queue", "LifoQueue", "JoinableQueue", "PriorityQueue" }

local NAN = 0 / 0

local function upvalue()
  return NAN
end

local items = {
  0, 1, -1, 42, 2 ^ 31 | 0, -(2 ^ 31) | 0,
  (1 << 49) - 1, 1 << 49, -(1 << 49), -(1 << 49) - 1, 1 << 50, 1 << 53,
  math.maxinteger, math.maxinteger - 1, math.mininteger, math.mininteger + 1,
  0.0, -0.0, 1.0, 1.5, -1.5, 2.0 ^ 49, 2.0 ^ 53, 5e-324, 2.2250738585072014e-308,
  1.7976931348623157e308, math.pi, math.huge, -math.huge, NAN, -NAN,
  true, false,
  debug.upvalueid(upvalue, 1),
  "", "string", "12", ("long "):rep(100),
  {}, print, upvalue, io.stdout, coroutine.create(print),
}

-- What tells one item from every other: the signs of zeros and NaNs too.
local function identity(item)
  if math.type(item) == "float" then
    return "float " .. string.pack("n", item)
  end
  return item
end

local function assert_item(expected, item, where)
  assert.equal(math.type(expected) or type(expected), math.type(item) or type(item), where)
  assert.is_true(rawequal(identity(expected), identity(item)), where)
end

-- A queue of a kind; PriorityQueues get items that are all equal, which makes them first in, first
-- out.
local function new(kind, maxsize, list)
  if kind == "PriorityQueue" then
    return queue.PriorityQueue(maxsize, list, function() return false end)
  end
  return queue[kind](maxsize, list)
end

-- What the queue of a kind gives next, of a list of what it holds; removes it there.
local function model_get(kind, model)
  return table.remove(model, kind ~= "LifoQueue" and 1 or nil)
end

local function drain(q)
  local list = {}
  while not q:empty() do
    list[#list + 1] = q:get()
  end
  return list
end

describe("moonlet.queue's items", function()
  it("come out as they went in, whatever they are, one by one", function()
    for _, kind in ipairs(KINDS) do
      local q = new(kind)
      for _, item in ipairs(items) do
        assert.is_true(q:put(item))
        assert_item(item, q:peek(), kind)
        assert_item(item, q:get(), kind)
      end
    end
  end)

  it("come out as they went in, all of them in one queue, put or given to its class", function()
    for _, kind in ipairs(KINDS) do
      local filled, q, model = new(kind, nil, items), new(kind), {}
      for i, item in ipairs(items) do
        q:put(item)
        model[i] = item
      end
      for _ = 1, #items do
        local expected = model_get(kind, model)
        assert_item(expected, q:get(), kind)
        assert_item(expected, filled:get(), kind)
      end
      assert.is_true(q:empty())
    end
  end)

  it("come out as they went in while the queue grows, wraps around and shrinks", function()
    math.randomseed(42)
    for _, kind in ipairs(KINDS) do
      local q, model = new(kind), {}
      for i = 1, 6000 do
        if #model == 0 or math.random() < (i % 2000 < 1200 and 0.7 or 0.2) then
          -- numbers only, now and then
          local item = items[math.random(i % 1000 < 500 and 30 or #items)]
          q:put(item)
          model[#model + 1] = item
        else
          assert_item(model_get(kind, model), q:get(), kind)
        end
      end
      assert.equal(#model, #q)
      while #model > 0 do
        assert_item(model_get(kind, model), q:get(), kind)
      end
    end
  end)

  it("pass from putters that wait to getters that wait", function()
    for _, kind in ipairs(KINDS) do
      local q = new(kind, 1)
      local putter = moonlet.spawn(function()
        for _, item in ipairs(items) do
          q:put(item)
        end
      end)
      for _, item in ipairs(items) do
        assert_item(item, q:get(), kind)
      end
      putter:join()
    end
  end)

  it("are copied by copy(), and are the copy's own", function()
    for _, kind in ipairs(KINDS) do
      for _, list in ipairs { {}, { 1, 2.5, true }, items } do
        local q = new(kind, nil, list)
        q:put("got")
        q:get()
        local copy = q:copy()
        copy:put("another")
        assert.equal(#q + 1, #copy)
        local got = drain(copy)
        table.remove(got, kind == "LifoQueue" and 1 or nil)
        for i, item in ipairs(drain(q)) do
          assert_item(item, got[i], kind)
        end
      end
    end
  end)

  it("may be objects after others, at any size of the queue", function()
    for size = 0, 40 do
      for _, kind in ipairs(KINDS) do
        local q, model = new(kind), {}
        for i = 1, size do
          q:put(i)
          model[i] = i
        end
        for i = 1, 40 do
          q:put("item " .. i)
          model[#model + 1] = "item " .. i
        end
        while #model > 0 do
          assert.equal(model_get(kind, model), q:get())
        end
      end
    end
  end)

  it("are neither lost nor doubled when finalizers put and get wherever memory is made", function()
    math.randomseed(42)
    local q, balance
    local function put_or_get()
      if math.random(3) > 1 then
        local item = math.random(30) > 1 and math.random(100) or "item " .. math.random(100)
        q:put(item)
        balance[item] = (balance[item] or 0) + 1
      elseif not q:empty() then
        local item = q:get()
        balance[item] = balance[item] - 1
      end
    end
    finally(function() collectgarbage("incremental", 200, 100, 13) end)
    collectgarbage("incremental", 1, 1000, 1)
    for _, kind in ipairs(KINDS) do
      for _ = 1, 8 do
        q, balance = new(kind), {}
        for i = 1, 40 do
          setmetatable({}, { __gc = put_or_get })
          put_or_get()
          if i % 10 == 0 then
            assert.is_true(#q:copy() >= 0)
          end
        end
        local last = q
        q = new(kind) -- for finalizers yet to come
        local counts = balance
        balance = {}
        for _, item in ipairs(drain(last)) do
          counts[item] = counts[item] - 1
        end
        for _, count in pairs(counts) do
          assert.equal(0, count)
        end
      end
    end
    collectgarbage()
  end)

  it("are let go of when they have been got", function()
    for _, kind in ipairs(KINDS) do
      for _, before in ipairs { 0, 5, 100 } do
        local q, weak = new(kind), setmetatable({}, { __mode = "v" })
        for i = 0, before do
          q:put(i)
        end
        for i = 1, 50 do
          weak[i] = {}
          q:put(weak[i])
        end
        q:put("last")
        for _ = 1, before + 51 do
          q:get()
        end
        collectgarbage()
        assert.is_nil(next(weak), kind)
        assert.equal(1, #q)
      end
    end
  end)

  it("are let go of by an immediate shutdown", function()
    for _, kind in ipairs(KINDS) do
      local q, weak = new(kind), setmetatable({ {} }, { __mode = "v" })
      q:put(1)
      q:put(weak[1])
      q:shutdown(true)
      collectgarbage()
      assert.is_nil(weak[1], kind)
      assert.is_true(q:empty())
    end
  end)

  it("are kept alive by the queue, and by its copy", function()
    for _, kind in ipairs(KINDS) do
      local q = new(kind)
      q:put({ "mine" })
      local copy = q:copy()
      collectgarbage()
      assert.equal("mine", q:get()[1])
      collectgarbage()
      assert.equal("mine", copy:get()[1])
    end
  end)

  it("take no more memory than in a table, numbers half of that", function()
    local function memory(item)
      collectgarbage()
      collectgarbage()
      local before, q = collectgarbage("count"), queue.Queue()
      for _ = 1, 8192 do
        q:put(item)
      end
      collectgarbage()
      collectgarbage()
      return (collectgarbage("count") - before) * 1024 / #q
    end
    assert.is_true(memory(1) < 9)
    assert.is_true(memory(1.5) < 9)
    assert.is_true(memory("string") < 17)
  end)
end)

describe("moonlet.queue PriorityQueue, by <,", function()
  local function sorted(list)
    local got = drain(queue.PriorityQueue(nil, list))
    assert.equal(#list, #got)
    for i = 2, #got do
      assert.is_true(got[i - 1] <= got[i])
    end
    return got
  end

  it("sorts integers of any size, and floats among them", function()
    local numbers = {}
    for _, item in ipairs(items) do
      if type(item) == "number" and item == item then
        numbers[#numbers + 1] = item
      end
    end
    local got = sorted(numbers)
    assert.equal(-math.huge, got[1])
    assert.equal(math.mininteger, got[2])
    assert.equal(math.huge, got[#got])
  end)

  it("sorts what was put in any order", function()
    math.randomseed(42)
    local list = {}
    for i = 1, 1000 do
      local integer = math.random(0) >> math.random(0, 63)
      list[i] = math.random(3) > 1 and integer or integer * 0.5
    end
    sorted(list)
  end)

  it("sorts strings, and puts nothing when it cannot compare", function()
    local q = queue.PriorityQueue(nil, { "b", "c", "a" })
    assert.is_string(support.error_of(q.put, q, 1))
    assert.is_string(support.error_of(q.put, q, true))
    assert.same({ "a", "b", "c" }, drain(q))
    q:put(1)
    assert.is_string(support.error_of(q.put, q, "1"))
    assert.same({ 1 }, drain(q))
  end)

  it("takes equal integers and floats in the order in which they came", function()
    local q = queue.PriorityQueue()
    for _, item in ipairs { 2, 1.0, 1, 2.0, 1 << 60, 2.0 ^ 60 } do
      q:put(item)
    end
    local kinds = {}
    for i, item in ipairs(drain(q)) do
      kinds[i] = math.type(item)
    end
    assert.same({ "float", "integer", "integer", "float", "integer", "float" }, kinds)
  end)
end)
