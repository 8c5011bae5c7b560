local moonlet = require "moonlet"
local queue = require "moonlet.queue"
local support = require "support"

-- Every kind of queue with a size, by name.
local KINDS = { "Queue", "LifoQueue", "PriorityQueue", "JoinableQueue" }

local function drain(q)
  local items = {}
  while not q:empty() do
    items[#items + 1] = q:get()
  end
  return items
end

describe("moonlet.queue Queue between greenlets", function()
  it("makes producer and consumer over a bound of 2 take turns in pairs", function()
    local q, seen = queue.Queue(2), support.trace()
    local producer = moonlet.spawn(function()
      for i = 0, 5 do
        q:put(i)
        seen("p" .. i)
      end
    end)
    local consumer = moonlet.spawn(function()
      for _ = 0, 5 do
        seen("c" .. q:get())
      end
    end)
    moonlet.joinall { producer, consumer }
    assert.equal("p0 p1 c0 c1 p2 p3 c2 c3 p4 p5 c4 c5", tostring(seen))
  end)

  it("plays strict ping-pong over two queues of size 1, and loses nothing", function()
    local there, back, seen = queue.Queue(1), queue.Queue(1), support.trace()
    local partner = moonlet.spawn(function()
      for i = 1, 100 do
        assert.equal(i, there:get())
        seen("pong")
        back:put(i)
      end
    end)
    for i = 1, 100 do
      seen("ping")
      there:put(i)
      assert.equal(i, back:get())
    end
    partner:join()
    assert.equal(("ping pong "):rep(100), tostring(seen) .. " ")
  end)

  it("shares the tasks among workers in rotation", function()
    local q, seen = queue.Queue(), support.trace()
    for i = 1, 6 do
      q:put(i)
    end
    local list = {}
    for _, name in ipairs { "a", "b", "c" } do
      list[#list + 1] = moonlet.spawn(function()
        while not q:empty() do
          seen(name .. q:get())
          moonlet.sleep(0)
        end
      end)
    end
    moonlet.joinall(list)
    assert.equal("a1 b2 c3 a4 b5 c6", tostring(seen))
  end)

  it("gives wait(queue) once an item is there, which it leaves", function()
    local q, r = queue.Queue(), queue.Queue()
    local g = moonlet.spawn_later(0.001, q.put, q, 1)
    local ready = moonlet.wait({ q, r }, 5, 1)
    assert.equal(1, #ready)
    assert.equal(q, ready[1])
    assert.equal(1, q:qsize())
    g:join()
  end)
end)

describe("moonlet.queue iteration", function()
  it("gives the items in order and ends at StopIteration, which stays hidden", function()
    local q, seen = queue.Queue(nil, { 1, false, 3, queue.StopIteration, 5 }), support.trace()
    for item in q do
      seen(item)
    end
    assert.equal("1 false 3", tostring(seen))
    assert.same({ 5 }, drain(q))
  end)

  it("blocks while the queue is empty", function()
    local q, seen = queue.Queue(), support.trace()
    local feeder = moonlet.spawn(function()
      for i = 1, 3 do
        moonlet.sleep(0)
        q:put(i)
      end
      q:put(queue.StopIteration)
    end)
    for item in q do
      seen(item)
    end
    assert.equal("1 2 3", tostring(seen))
    feeder:join()
  end)

  it("ends silently once a queue that was shut down is empty", function()
    local q, seen = queue.Queue(nil, { 1, 2 }), support.trace()
    q:shutdown()
    for item in q do
      seen(item)
    end
    for item in q do
      seen(item)
    end
    assert.equal("1 2", tostring(seen))
  end)

  it("that is blocked ends when the queue is shut down", function()
    local q, seen = queue.Queue(), support.trace()
    local g = moonlet.spawn(function()
      for item in q do
        seen(item)
      end
      seen("end")
    end)
    support.turns(1)
    q:shutdown()
    g:join()
    assert.equal("end", tostring(seen))
  end)

  it("works for every kind, and several loops share the items", function()
    for _, kind in ipairs(KINDS) do
      local q, count = queue[kind](), 0
      local list = {}
      for i = 1, 2 do
        list[i] = moonlet.spawn(function()
          for _ in q do
            count = count + 1
          end
        end)
      end
      for i = 1, 10 do
        q:put(i)
      end
      support.turns()
      q:shutdown()
      moonlet.joinall(list)
      assert.equal(10, count)
    end
  end)
end)

describe("moonlet.queue shutdown", function()
  it("makes every put return nil, ShutDown at once", function()
    for _, kind in ipairs(KINDS) do
      local q = queue[kind]()
      q:shutdown()
      assert.same({ n = 2, nil, queue.ShutDown }, table.pack(q:put(1)))
      assert.same({ n = 2, nil, queue.ShutDown }, table.pack(q:put(1, 5)))
      assert.same({ n = 2, nil, queue.ShutDown }, table.pack(q:put_nowait(1)))
    end
  end)

  it("lets gets drain what is there, and then return nil, ShutDown", function()
    for _, kind in ipairs(KINDS) do
      local q = queue[kind](nil, { 7 })
      q:shutdown()
      assert.equal(7, q:peek())
      assert.equal(7, q:get())
      assert.same({ n = 2, nil, queue.ShutDown }, table.pack(q:get()))
      assert.same({ n = 2, nil, queue.ShutDown }, table.pack(q:get_nowait()))
      assert.same({ n = 2, nil, queue.ShutDown }, table.pack(q:peek()))
    end
  end)

  it("gives ShutDown to blocked getters in order, in a later turn", function()
    local q, seen = queue.Queue(), support.trace()
    local list = {}
    for i = 1, 3 do
      list[i] = moonlet.spawn(function() seen(i, select(2, q:get()) == queue.ShutDown) end)
    end
    support.turns(1)
    q:shutdown()
    assert.equal("", tostring(seen))
    moonlet.joinall(list)
    assert.equal("1 true 2 true 3 true", tostring(seen))
  end)

  it("gives ShutDown to blocked putters in order; their items never enter", function()
    local q, seen = queue.Queue(1, { "first" }), support.trace()
    local list = {}
    for i = 1, 2 do
      list[i] = moonlet.spawn(function() seen(i, select(2, q:put(i)) == queue.ShutDown) end)
    end
    support.turns(1)
    q:shutdown()
    moonlet.joinall(list)
    assert.equal("1 true 2 true", tostring(seen))
    assert.same({ "first" }, drain(q))
  end)

  it("throws the items away when it is immediate", function()
    local q = queue.Queue(nil, { 1, 2 })
    q:shutdown(true)
    assert.is_true(q:empty())
    assert.same({ n = 2, nil, queue.ShutDown }, table.pack(q:get()))
  end)

  it("may be called again", function()
    local q = queue.Queue(nil, { 1 })
    q:shutdown()
    q:shutdown()
    assert.equal(1, q:get())
    q:shutdown(true)
  end)

  it("when immediate counts the items thrown away as done, which frees the joiners", function()
    local q = queue.JoinableQueue(nil, { 1, 2 })
    local joiner = moonlet.spawn(q.join, q)
    support.turns(1)
    q:shutdown(true)
    assert.is_true(joiner:get())
    assert.equal(0, q.unfinished_tasks)
  end)
end)
