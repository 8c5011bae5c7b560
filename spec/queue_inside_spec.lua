local moonlet = require "moonlet"
local queue = require "moonlet.queue"
local support = require "support"

local RINGS = { "Queue", "LifoQueue", "JoinableQueue" }
local KINDS = { "Queue", "LifoQueue", "JoinableQueue", "PriorityQueue" }

local function drain(q)
  local items = {}
  while not q:empty() do
    items[#items + 1] = q:get()
  end
  return items
end

describe("moonlet.queue's slots", function()
  it("keep their items while the queue grows, wraps around and shrinks", function()
    for _, kind in ipairs(RINGS) do
      local q, model = queue[kind](), {}
      for i = 1, 20000 do
        if i % 5000 < 3000 and i % 3 ~= 0 or #model == 0 then
          q:put(i)
          model[#model + 1] = i
        else
          assert.equal(table.remove(model, kind ~= "LifoQueue" and 1 or nil), q:get())
        end
      end
      assert.equal(#model, #q)
    end
  end)

  it("let go of an item that was got, and of a big table once they are empty", function()
    for _, kind in ipairs(KINDS) do
      local q = queue[kind](nil, nil, kind == "PriorityQueue" and function() end or nil)
      local weak = setmetatable({ {} }, { __mode = "v" })
      q:put("stays")
      q:put(weak[1])
      q:get()
      q:get()
      collectgarbage()
      assert.is_nil(weak[1], kind)
      collectgarbage()
      local before = collectgarbage("count")
      for _ = 1, 50000 do
        q:put(1)
      end
      drain(q)
      collectgarbage()
      assert.is_true(collectgarbage("count") - before < 100, kind)
    end
  end)

  it("stay whole when finalizers use the queue in the middle of its operations", function()
    for _, kind in ipairs(KINDS) do
      local q = queue[kind](20)
      local balance = 0
      local function put_or_get()
        if math.random(2) == 1 then
          balance = balance + (q:put_nowait(math.random(100)) and 1 or 0)
        else
          balance = balance - (q:get_nowait() and 1 or 0)
        end
      end
      for _ = 1, 2000 do
        setmetatable({}, { __gc = put_or_get })
        q:copy()
        put_or_get()
        collectgarbage("step")
        assert.is_true(#q <= 20)
      end
      collectgarbage()
      assert.equal(balance, #q, kind)
      assert.equal(balance, #drain(q), kind)
    end
  end)

  it("are copied by copy() for every kind, with the subclass's own fields", function()
    for _, kind in ipairs(KINDS) do
      local Sub = queue[kind]:extend("Sub")
      local q = Sub(nil, { 3, 1, 2 })
      q.name = "original"
      q:get()
      local copy = q:copy()
      copy.name = "copy"
      assert.is_true(copy:is(Sub))
      assert.equal("original", q.name)
      assert.same(drain(copy), drain(q))
    end
  end)
end)

describe("moonlet.queue PriorityQueue's order", function()
  it("lets equal items out in the order in which they went in", function()
    local q = queue.PriorityQueue(nil, nil, function(a, b) return a.n < b.n end)
    for i = 1, 200 do
      q:put({ n = i % 7, i = i })
    end
    local last = { n = -1, i = 0 }
    for _, item in ipairs(drain(q)) do
      assert.is_true(item.n > last.n or item.n == last.n and item.i > last.i)
      last = item
    end
  end)

  it("may block for one item without holding up gets and other puts", function()
    local gate = queue.Channel()
    local q = queue.PriorityQueue(nil, { 1, 2 }, function(a, b)
      if a == 9 or b == 9 then
        gate:get()
      end
      return a < b
    end)
    local slow = moonlet.spawn(q.put, q, 9)
    support.turns(1)
    assert.equal(1, q:get())
    assert.is_true(q:put(3))
    assert.same({ 2, 3 }, { q:get(), q:get() })
    gate:put_nowait(true)
    assert.is_true(slow:get())
    assert.same({ 9 }, drain(q))
  end)

  it("when it fails in a putter that was woken gives the room to the next", function()
    local blocked = queue.Channel()
    local q = queue.PriorityQueue(2, { 1, 2 }, function(a, b)
      if a == 9 then
        blocked:get()
      end
      return a < b
    end)
    local first, second = moonlet.spawn(q.put, q, 9), moonlet.spawn(q.put, q, 3)
    support.turns(1)
    assert.equal(1, q:get())
    support.turns(1)
    first:kill()
    assert.is_true(second:get())
    assert.same({ 2, 3 }, drain(q))
  end)

  it("does not let an item in when the queue is shut down while it blocks", function()
    local gate = queue.Channel()
    local q = queue.PriorityQueue(nil, { 1 }, function(a, b) return gate:get() and a < b end)
    local slow = moonlet.spawn(q.put, q, 2)
    support.turns(1)
    q:shutdown(true)
    gate:put_nowait(true)
    assert.same({ n = 2, nil, queue.ShutDown }, table.pack(slow:get()))
    assert.is_true(q:empty())
  end)
end)

describe("moonlet.queue Channel, interrupted", function()
  it("lets a put that was taken return, though a kill is due", function()
    local c, result = queue.Channel(), nil
    local putter = moonlet.spawn(function()
      result = c:put("item")
      moonlet.sleep(10)
    end)
    support.turns(1)
    putter:kill(nil, 0)
    assert.equal("item", c:get_nowait())
    putter:join()
    assert.is_true(result)
  end)

  it("lets a get that was given something return it, though a kill is due", function()
    local c, result = queue.Channel(), nil
    local getter = moonlet.spawn(function()
      result = c:get()
      moonlet.sleep(10)
    end)
    support.turns(1)
    getter:kill(nil, 0)
    assert.is_true(c:put_nowait("item"))
    getter:join()
    assert.equal("item", result)
  end)

  it("passes an offer on when the getter that was woken for it is killed", function()
    local c = queue.Channel()
    local first, second = moonlet.spawn(c.get, c), moonlet.spawn(c.get, c)
    support.turns(1)
    first:kill(nil, 0)
    assert.is_true(c:put("item"))
    assert.equal("item", second:get())
  end)

  it("is ended for all by shutdown, but for those that have met before", function()
    local c = queue.Channel()
    local taken, left = moonlet.spawn(c.put, c, 1), moonlet.spawn(c.put, c, 2)
    support.turns(1)
    assert.equal(1, c:peek())
    assert.equal(1, c:get())
    c:shutdown()
    assert.is_true(taken:get())
    assert.same({ n = 2, nil, queue.ShutDown }, table.pack(left:get()))
    assert.same({ n = 2, nil, queue.ShutDown }, table.pack(c:get()))
    assert.same({ n = 2, nil, queue.ShutDown }, table.pack(c:put(3)))
  end)

  it("is ready for wait once a put waits, which goes on waiting", function()
    local c = queue.Channel()
    local putter = moonlet.spawn_later(0.001, c.put, c, 1)
    assert.same({ c }, moonlet.wait({ c }, 5))
    assert.equal(1, c.balance)
    assert.equal(1, c:get())
    putter:join()
  end)
end)
