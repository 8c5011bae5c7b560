local moonlet = require "moonlet"
local queue = require "moonlet.queue"
local support = require "support"

local function drain(q)
  local items = {}
  while not q:empty() do
    items[#items + 1] = q:get()
  end
  return items
end

describe("moonlet.queue LifoQueue", function()
  it("gives the last item first, and peeks at the last", function()
    local q = queue.LifoQueue(nil, { 1, 2 })
    q:put(3)
    assert.equal(3, q:peek())
    assert.same({ 3, 2, 1 }, drain(q))
  end)

  it("is a Queue of bounded size like the others", function()
    local q = queue.LifoQueue(1)
    assert.is_true(q:is(queue.Queue))
    assert.is_true(q:put("a"))
    assert.same({ n = 2, nil, queue.Full }, table.pack(q:put("b", 0)))
    assert.matches("LifoQueue", tostring(q))
  end)
end)

describe("moonlet.queue PriorityQueue", function()
  it("gives the smallest item first, also of those it was built with", function()
    local q = queue.PriorityQueue(nil, { 5, 1, 4 })
    q:put(3)
    q:put(2)
    assert.equal(1, q:peek())
    assert.same({ 1, 2, 3, 4, 5 }, drain(q))
  end)

  it("gives equal items as often as they were put", function()
    local q = queue.PriorityQueue(nil, { "b", "a", "b", "a" })
    assert.same({ "a", "a", "b", "b" }, drain(q))
  end)

  it("orders by the items' own __lt", function()
    local meta = { __lt = function(a, b) return a.n < b.n end }
    local q = queue.PriorityQueue()
    for _, n in ipairs { 3, 1, 2 } do
      q:put(setmetatable({ n = n }, meta))
    end
    assert.same({ 1, 2, 3 }, { q:get().n, q:get().n, q:get().n })
  end)

  it("orders by the function it was given, items at construction too", function()
    local q = queue.PriorityQueue(nil, { 1, 3 }, function(a, b) return a > b end)
    q:put(2)
    assert.same({ 3, 2, 1 }, drain(q))
  end)

  it("refuses an order that is no function, by number", function()
    assert.matches("bad argument #3 to",
                   support.error_of(function() queue.PriorityQueue(nil, nil, 5) end))
  end)

  it("is a Queue of bounded size like the others", function()
    local q = queue.PriorityQueue(1, { 1 })
    assert.is_true(q:is(queue.Queue))
    assert.same({ n = 2, nil, queue.Full }, table.pack(q:put(0, 0)))
    assert.matches("PriorityQueue", tostring(q))
  end)

  it("gives a blocked getter the smallest of what is there when it runs", function()
    local q = queue.PriorityQueue()
    local g = moonlet.spawn(q.get, q)
    support.turns(1)
    q:put(2)
    q:put(1)
    assert.equal(1, g:get())
    assert.equal(2, q:get())
  end)

  it("stays whole when the items cannot be compared: the error is raised to the putter", function()
    local q = queue.PriorityQueue(nil, { 1, 2 })
    assert.is_false((pcall(q.put, q, {})))
    assert.same({ 1, 2 }, drain(q))
  end)

  it("loses nothing when its order function blocks, while others put and get", function()
    local function less(a, b)
      moonlet.sleep(0)
      return a < b
    end
    local q = queue.PriorityQueue(nil, {}, less)
    local list, count = {}, 0
    for i = 1, 5 do
      list[#list + 1] = moonlet.spawn(function()
        for k = 1, 10 do
          q:put(i * 10 + k)
        end
      end)
      list[#list + 1] = moonlet.spawn(function()
        for _ = 1, 6 do
          assert.is_not_nil(q:get())
          count = count + 1
        end
      end)
    end
    moonlet.joinall(list, nil, true)
    local rest = drain(q)
    assert.equal(50, count + #rest)
    for i = 2, #rest do
      assert.is_true(rest[i - 1] <= rest[i])
    end
  end)
end)

describe("moonlet.queue JoinableQueue", function()
  it("counts unfinished tasks by the items put, those at construction included", function()
    local q = queue.JoinableQueue(nil, { 1, 2 })
    assert.equal(2, q.unfinished_tasks)
    q:put(3)
    assert.equal(3, q.unfinished_tasks)
    q:get()
    assert.equal(3, q.unfinished_tasks)
    q:task_done()
    assert.equal(2, q.unfinished_tasks)
  end)

  it("does not count a blocked put before its item is in, nor one that timed out", function()
    local q = queue.JoinableQueue(1, { 1 })
    local putter = moonlet.spawn(q.put, q, 2)
    support.turns(1)
    assert.equal(1, q.unfinished_tasks)
    assert.is_nil(q:put(3, 0.001))
    assert.equal(1, q.unfinished_tasks)
    q:get()
    putter:join()
    assert.equal(2, q.unfinished_tasks)
  end)

  it("raises at one task_done too many, and changes nothing", function()
    local q = queue.JoinableQueue()
    assert.is_false((pcall(q.task_done, q)))
    assert.equal(0, q.unfinished_tasks)
    q:put(1)
    q:task_done()
    assert.is_false((pcall(q.task_done, q)))
  end)

  it("join returns true at once with nothing unfinished, and false at its timeout", function()
    local q = queue.JoinableQueue()
    assert.is_true(q:join())
    assert.is_true(q:join(0))
    q:put(1)
    assert.is_false(q:join(0))
    assert.is_false(q:join(0.001))
  end)

  it("join wakes all joiners in order once the last task is done, in a later turn", function()
    local q, seen = queue.JoinableQueue(nil, { 1, 2 }), support.trace()
    local list = {}
    for i = 1, 3 do
      list[i] = moonlet.spawn(function() seen(i, q:join()) end)
    end
    support.turns(1)
    q:task_done()
    support.turns()
    assert.equal("", tostring(seen))
    q:task_done()
    assert.equal("", tostring(seen))
    moonlet.joinall(list)
    assert.equal("1 true 2 true 3 true", tostring(seen))
  end)

  it("join waits until workers have done all the work, again and again", function()
    local q, done = queue.JoinableQueue(), 0
    local worker = moonlet.spawn(function()
      for _ in q do
        moonlet.sleep(0)
        done = done + 1
        q:task_done()
      end
    end)
    for round = 1, 3 do
      for i = 1, 5 do
        q:put(i)
      end
      assert.is_true(q:join())
      assert.equal(round * 5, done)
    end
    q:shutdown()
    worker:join()
  end)

  it("is a Queue, and says in tostring what it is", function()
    local q = queue.JoinableQueue()
    assert.is_true(q:is(queue.Queue))
    assert.matches("JoinableQueue", tostring(q))
  end)
end)

describe("moonlet.queue Channel", function()
  it("holds nothing: its size is 0, and it is always both empty and full", function()
    local c = queue.Channel()
    assert.equal(0, c:qsize())
    assert.equal(0, #c)
    assert.is_true(c:empty())
    assert.is_true(c:full())
    local putter = moonlet.spawn(c.put, c, 1)
    support.turns(1)
    assert.equal(0, c:qsize())
    assert.is_true(c:empty())
    assert.equal(1, c:get())
    putter:join()
  end)

  it("takes no size", function()
    assert.is_false((pcall(queue.Channel, 2)))
  end)

  it("put waits for a get, and the getter runs first", function()
    local c, seen = queue.Channel(), support.trace()
    local getter = moonlet.spawn(function()
      seen(c:get())
      seen(c:get())
    end)
    seen("sending")
    assert.is_true(c:put("hello"))
    seen("sent")
    assert.is_true(c:put("world"))
    seen("sent")
    assert.equal("sending hello sent world sent", tostring(seen))
    getter:join()
  end)

  it("get waits for a put, and is served before the putter goes on", function()
    local c, seen = queue.Channel(), support.trace()
    local putter = moonlet.spawn(function()
      seen("sending")
      c:put("hello")
      seen("sending")
      c:put("world")
      seen("sent")
    end)
    seen("waiting")
    seen(c:get())
    seen(c:get())
    assert.equal("waiting sending hello sending world", tostring(seen))
    putter:join()
    assert.equal("sent", seen[#seen])
  end)

  it("serves putters and getters in the order of waiting", function()
    local c, seen = queue.Channel(), support.trace()
    local list = {}
    for i = 1, 3 do
      list[i] = moonlet.spawn(c.put, c, i)
    end
    support.turns(1)
    seen(c:get(), c:get(), c:get())
    moonlet.joinall(list)
    for i = 1, 3 do
      list[i] = moonlet.spawn(function() seen(i .. c:get()) end)
    end
    support.turns(1)
    for _, item in ipairs { "a", "b", "c" } do
      c:put(item)
    end
    moonlet.joinall(list)
    assert.equal("1 2 3 1a 2b 3c", tostring(seen))
  end)

  it("returns nil, Full and nil, Empty without waiting and once a timeout has passed", function()
    local c = queue.Channel()
    assert.same({ n = 2, nil, queue.Full }, table.pack(c:put_nowait(1)))
    assert.same({ n = 2, nil, queue.Full }, table.pack(c:put(1, 0.001)))
    assert.same({ n = 2, nil, queue.Empty }, table.pack(c:get_nowait()))
    assert.same({ n = 2, nil, queue.Empty }, table.pack(c:get(0.001)))
  end)

  it("put_nowait serves a waiting getter, get_nowait takes from a waiting putter", function()
    local c = queue.Channel()
    local getter = moonlet.spawn(c.get, c)
    support.turns(1)
    assert.is_true(c:put_nowait("a"))
    assert.equal("a", getter:get())
    local putter = moonlet.spawn(c.put, c, "b")
    support.turns(1)
    assert.equal("b", c:get_nowait())
    assert.is_true(putter:get())
  end)

  it("forgets a put or a get that timed out or was killed", function()
    local c = queue.Channel()
    assert.is_nil(c:put("lost", 0.001))
    assert.is_nil(c:get(0.001))
    local putter = moonlet.spawn(c.put, c, "killed")
    local other = moonlet.spawn(c.put, c, "kept")
    support.turns(1)
    putter:kill()
    assert.equal("kept", c:get())
    other:join()
    assert.is_nil(c:get(0))
    local getter = moonlet.spawn(c.get, c)
    support.turns(1)
    getter:kill()
    assert.is_nil(c:put("nobody", 0))
  end)

  it("tells by balance how many putters or getters wait", function()
    local c = queue.Channel()
    assert.equal(0, c.balance)
    local list = { moonlet.spawn(c.put, c, 1), moonlet.spawn(c.put, c, 2) }
    support.turns(1)
    assert.equal(2, c.balance)
    moonlet.killall(list)
    assert.equal(0, c.balance)
    list = { moonlet.spawn(c.get, c) }
    support.turns(1)
    assert.equal(-1, c.balance)
    moonlet.killall(list)
  end)

  it("raises where nil is put, and may be iterated until StopIteration", function()
    local c, seen = queue.Channel(), support.trace()
    assert.matches("bad argument #1 to 'put'", support.error_of(function() c:put(nil) end))
    local putter = moonlet.spawn(function()
      c:put(1)
      c:put(queue.StopIteration)
    end)
    for item in c do
      seen(item)
    end
    assert.equal("1", tostring(seen))
    putter:join()
    assert.matches("Channel", tostring(c))
  end)
end)
