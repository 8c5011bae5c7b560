local moonlet = require "moonlet"
local queue = require "moonlet.queue"
local support = require "support"

local Queue = queue.Queue

local function burn(seconds)
  local start = os.clock()
  while os.clock() - start < seconds do end
end

-- Greenlets 1..n, each of which gets one item and says its number and the item.
local function getters(q, n, seen)
  local list = {}
  for i = 1, n do
    list[i] = moonlet.spawn(function() seen(i .. ":" .. tostring(q:get())) end)
  end
  support.turns(1)
  return list
end

-- Greenlets, each of which puts one of the items and says so once it is in.
local function putters(q, items, seen)
  local list = {}
  for i, item in ipairs(items) do
    list[i] = moonlet.spawn(function()
      assert.is_true(q:put(item))
      seen("put " .. item)
    end)
  end
  support.turns(1)
  return list
end

local function drain(q)
  local items = {}
  while not q:empty() do
    items[#items + 1] = q:get()
  end
  return items
end

describe("moonlet.queue Queue, built", function()
  it("without a size, or with nil, 0 or less, is unbounded and never full", function()
    for _, q in ipairs { Queue(), Queue(nil), Queue(0), Queue(-1) } do
      for i = 1, 100 do
        assert.is_true(q:put(i, 0))
      end
      assert.is_false(q:full())
      assert.equal(100, q:qsize())
    end
  end)

  it("with a size is full once that many items are in", function()
    local q = Queue(2)
    assert.equal(2, q.maxsize)
    assert.is_true(q:empty())
    assert.is_false(q:full())
    q:put(1)
    assert.is_false(q:empty())
    assert.is_false(q:full())
    q:put(2)
    assert.is_true(q:full())
  end)

  it("with items holds them in order, all of them even beyond its size", function()
    local q = Queue(2, { "a", "b", "c" })
    assert.equal(3, q:qsize())
    assert.is_true(q:full())
    assert.same({ "a", "b", "c" }, drain(q))
    assert.same({ 1 }, drain(Queue(nil, { 1 })))
  end)

  it("refuses a size that is no number and items that are no list, by number", function()
    assert.matches("bad argument #1 to", support.error_of(function() Queue("many") end))
    assert.matches("bad argument #2 to", support.error_of(function() Queue(1, 5) end))
  end)

  it("says in tostring what it is and how much it holds", function()
    local q = Queue(7)
    local empty = tostring(q)
    assert.matches("Queue", empty)
    q:put(1)
    assert.are_not.equal(empty, tostring(q))
    q:shutdown()
    assert.matches("shut", tostring(q))
  end)

  it("may be subclassed, and is asked for its class", function()
    local Mailbox = Queue:extend()
    function Mailbox:new(owner)
      Mailbox.super.new(self, 1)
      self.owner = owner
    end
    function Mailbox:put(item, timeout)
      return Mailbox.super.put(self, self.owner .. " " .. item, timeout)
    end
    local q = Mailbox("steve")
    assert.is_true(q:is(Mailbox))
    assert.is_true(q:is(Queue))
    assert.is_false(Queue():is(Mailbox))
    assert.is_true(q:put("hello"))
    assert.is_true(q:full())
    assert.equal("steve hello", q:get())
  end)

  it("copy() makes a queue of its own with the same items", function()
    local q = Queue(3, { 1, 2 })
    local copy = q:copy()
    assert.same({ 1, 2 }, drain(copy))
    assert.equal(2, q:qsize())
    assert.equal(3, copy.maxsize)
  end)
end)

describe("moonlet.queue Queue, without blocking", function()
  it("gives items first in, first out, over any number of them", function()
    local q = Queue()
    local next_out = 1
    for i = 1, 1000 do
      q:put(i)
      if i % 3 == 0 then
        assert.equal(next_out, q:get())
        next_out = next_out + 1
      end
    end
    while not q:empty() do
      assert.equal(next_out, q:get())
      next_out = next_out + 1
    end
    assert.equal(1001, next_out)
  end)

  it("tells its size by qsize and by #", function()
    local q = Queue()
    assert.equal(0, #q)
    q:put("a")
    q:put("b")
    assert.equal(2, #q)
    assert.equal(2, q:qsize())
  end)

  it("neither blocks nor yields in put with room and in get and peek with an item", function()
    local q, seen = Queue(1), support.trace()
    local other = moonlet.spawn(seen, "other")
    assert.is_true(q:put(1))
    assert.equal(1, q:peek())
    assert.equal(1, q:get())
    assert.equal("", tostring(seen))
    other:join()
  end)

  it("keeps false, tables and functions as they are", function()
    local q, t = Queue(), {}
    for _, item in ipairs { false, t, print, "", 0 } do
      q:put(item)
      assert.equal(item, q:get())
    end
  end)

  it("raises where nil is put, naming function and argument, and takes nothing", function()
    local q = Queue()
    assert.matches("bad argument #1 to 'put'", support.error_of(function() q:put(nil) end))
    assert.matches("bad argument #1 to 'put'", support.error_of(function() q:put() end))
    assert.matches("bad argument #1 to 'put_nowait'",
                   support.error_of(function() q:put_nowait(nil) end))
    assert.is_true(q:empty())
  end)

  it("raises where the timeout is none, naming function and argument", function()
    local q = Queue()
    assert.matches("bad argument #1 to 'get'", support.error_of(function() q:get({}) end))
    assert.matches("bad argument #2 to 'put'", support.error_of(function() q:put(1, {}) end))
    assert.matches("bad argument #1 to 'peek'", support.error_of(function() q:peek({}) end))
  end)

  it("returns nil, Empty from get_nowait, peek_nowait and a timeout of 0 or less", function()
    local q = Queue()
    for _, call in ipairs {
      function() return q:get_nowait() end,
      function() return q:peek_nowait() end,
      function() return q:get(0) end,
      function() return q:get(-1) end,
      function() return q:peek(0) end,
    } do
      assert.same({ n = 2, nil, queue.Empty }, table.pack(call()))
    end
  end)

  it("returns nil, Full from put_nowait and a timeout of 0 or less, and takes nothing", function()
    local q = Queue(1, { "first" })
    for _, call in ipairs {
      function() return q:put_nowait("second") end,
      function() return q:put("second", 0) end,
      function() return q:put("second", -1) end,
    } do
      assert.same({ n = 2, nil, queue.Full }, table.pack(call()))
    end
    assert.same({ "first" }, drain(q))
  end)

  it("has Empty, Full, ShutDown and StopIteration as four things that say what they are", function()
    local names = { "Empty", "Full", "ShutDown", "StopIteration" }
    for i, name in ipairs(names) do
      assert.is_not_nil(queue[name])
      assert.matches(name, tostring(queue[name]))
      for j = 1, i - 1 do
        assert.are_not.equal(queue[name], queue[names[j]])
      end
    end
  end)

  it("peeks at the next item and leaves it there", function()
    local q = Queue(nil, { "a", "b" })
    assert.equal("a", q:peek())
    assert.equal("a", q:peek_nowait())
    assert.equal(2, q:qsize())
    assert.equal("a", q:get())
  end)
end)

describe("moonlet.queue Queue:get, blocked", function()
  it("returns an item put later", function()
    local q = Queue()
    local g = moonlet.spawn(q.put, q, "late")
    assert.equal("late", q:get())
    g:join()
  end)

  it("returns nil, Empty once the timeout has passed", function()
    local q = Queue()
    assert.same({ n = 2, nil, queue.Empty }, table.pack(q:get(0.001)))
    assert.same({ n = 2, nil, queue.Empty }, table.pack(q:peek(0.001)))
  end)

  it("returns an item that came within the timeout", function()
    local q = Queue()
    local g = moonlet.spawn_later(0.001, q.put, q, "in time")
    assert.equal("in time", q:get(5))
    g:join()
  end)

  it("is not run by the put, whose items count until the putter blocks", function()
    local q, seen = Queue(), support.trace()
    local list = getters(q, 3, seen)
    for i = 1, 3 do
      q:put(i)
      assert.equal(i, q:qsize())
    end
    assert.equal("", tostring(seen))
    moonlet.joinall(list)
    assert.equal("1:1 2:2 3:3", tostring(seen))
  end)

  it("waits on, in its place, when another takes the item before it runs", function()
    local q, seen = Queue(), support.trace()
    local list = getters(q, 2, seen)
    q:put("a")
    assert.equal("a", q:get())
    support.turns()
    assert.equal("", tostring(seen))
    q:put("b")
    support.turns()
    assert.equal("1:b", tostring(seen))
    q:put("c")
    moonlet.joinall(list)
    assert.equal("1:b 2:c", tostring(seen))
  end)

  it("keeps its timeout when another takes the item before it runs", function()
    local q = Queue()
    local g = moonlet.spawn(q.get, q, 0.01)
    support.turns(1)
    q:put("a")
    assert.equal("a", q:get())
    assert.same({ n = 2, nil, queue.Empty }, table.pack(g:get()))
  end)

  it("gets the item that came in time, though its time was up before it ran", function()
    local q = Queue()
    local g = moonlet.spawn(q.get, q, 0.005)
    support.turns(1)
    q:put("a")
    burn(0.02)
    assert.equal("a", g:get())
    assert.is_true(q:empty())
  end)

  it("leaves the item in the queue whenever it returns Empty", function()
    for i = 1, 30 do
      local q = Queue()
      local g = moonlet.spawn(q.get, q, 0.001)
      local h = moonlet.spawn_later(0.001, q.put, q, i)
      moonlet.joinall { g, h }
      local item, err = g:get()
      if item == nil then
        assert.equal(queue.Empty, err)
        item = q:get_nowait()
      end
      assert.equal(i, item)
      assert.is_true(q:empty())
    end
  end)

  it("lets an outer Timeout through, and raises a started one given as its timeout", function()
    local q = Queue()
    local outer <close> = moonlet.Timeout.start_new(0.001)
    assert.equal(outer, support.error_of(q.get, q, 5))
    local own <close> = moonlet.Timeout.start_new(0.001)
    assert.equal(own, support.error_of(q.get, q, own))
    q:put(1)
    support.turns()
    assert.equal(1, q:qsize())
  end)

  it("when killed takes nothing; the item goes to the next in line", function()
    local q, seen = Queue(), support.trace()
    local list = getters(q, 3, seen)
    list[1]:kill()
    q:put("a")
    q:put("b")
    moonlet.joinall(list)
    assert.equal("2:a 3:b", tostring(seen))
  end)

  it("passes its wake-up on when the kill is there before the put", function()
    local q, seen = Queue(), support.trace()
    local list = getters(q, 2, seen)
    list[1]:kill(nil, 0)
    q:put("a")
    list[2]:join()
    assert.equal("2:a", tostring(seen))
  end)

  it("took the item and ended normally when the put was there before the kill", function()
    local q, seen = Queue(), support.trace()
    local list = getters(q, 1, seen)
    q:put("a")
    list[1]:kill(nil, 0)
    list[1]:join()
    assert.equal("1:a", tostring(seen))
    assert.is_nil(list[1].value)
  end)

  it("passes its wake-up on when a Timeout due by then takes it out", function()
    local q, seen = Queue(), support.trace()
    local first = moonlet.spawn(function()
      local limit <close> = moonlet.Timeout.start_new(0.005)
      seen(select(2, pcall(q.get, q)) == limit and "timed out" or "got it")
    end)
    support.turns(1)
    local second = getters(q, 1, seen)[1]
    q:put("a")
    burn(0.02)
    first:join()
    support.turns()
    if tostring(seen):find("got it") then
      second:kill()
    else
      assert.equal("timed out 1:a", tostring(seen))
    end
    assert.is_true(q:empty())
  end)

  it("raises LoopExit in main when nothing could ever put", function()
    support.unbounded()
    local q = Queue()
    assert.is_true(support.error_of(q.get, q):is(moonlet.LoopExit))
    q:put(1)
    assert.equal(1, q:get())
  end)

  it("may happen in a comparator, a metamethod and a user's coroutine", function()
    local q = Queue(1)
    local feeder = moonlet.spawn(function()
      while true do
        moonlet.sleep(0)
        q:put(true)
      end
    end)
    local list = { 2, 1 }
    table.sort(list, function(a, b) return q:get() and a < b end)
    assert.same({ 1, 2 }, list)
    local meta = setmetatable({}, { __index = function() return q:get() end })
    assert.is_true(meta.field)
    local step = coroutine.wrap(function()
      coroutine.yield("yielded")
      return q:get()
    end)
    assert.equal("yielded", step())
    assert.is_true(step())
    feeder:kill()
  end)
end)

describe("moonlet.queue Queue:peek, blocked", function()
  it("returns the item put later, and leaves it there", function()
    local q = Queue()
    local g = moonlet.spawn(q.put, q, "a")
    assert.equal("a", q:peek())
    assert.equal(1, q:qsize())
    g:join()
  end)

  it("wakes with several others by one item, and a getter still gets it", function()
    local q, seen = Queue(), support.trace()
    local list = {}
    for i = 1, 2 do
      list[i] = moonlet.spawn(function() seen("peek " .. q:peek()) end)
    end
    list[3] = moonlet.spawn(function() seen("get " .. q:get()) end)
    support.turns(1)
    q:put("a")
    moonlet.joinall(list)
    assert.equal("peek a peek a get a", tostring(seen))
    assert.is_true(q:empty())
  end)
end)

describe("moonlet.queue Queue:put, blocked", function()
  it("returns true once there is room, which the getter's item made", function()
    local q, seen = Queue(1, { 1 }), support.trace()
    local list = putters(q, { 2 }, seen)
    assert.equal("", tostring(seen))
    assert.equal(1, q:get())
    assert.equal("", tostring(seen))
    list[1]:join()
    assert.equal("put 2", tostring(seen))
    assert.equal(2, q:get())
  end)

  it("is served in the order of waiting, one for each item taken", function()
    local q, seen = Queue(1, { 1 }), support.trace()
    local list = putters(q, { 2, 3, 4 }, seen)
    local got = {}
    for i = 1, 3 do
      got[i] = q:get()
      support.turns(2)
      assert.equal(i, #seen)
    end
    got[4] = q:get()
    assert.same({ 1, 2, 3, 4 }, got)
    assert.equal("put 2 put 3 put 4", tostring(seen))
    moonlet.joinall(list)
  end)

  it("returns nil, Full once the timeout has passed, and its item never enters", function()
    local q = Queue(1, { 1 })
    assert.same({ n = 2, nil, queue.Full }, table.pack(q:put(2, 0.001)))
    q:get()
    support.turns()
    assert.is_true(q:empty())
  end)

  it("when killed never enters its item; the room goes to the next in line", function()
    local q, seen = Queue(1, { 1 }), support.trace()
    local list = putters(q, { 2, 3 }, seen)
    list[1]:kill()
    q:get()
    list[2]:join()
    assert.equal("put 3", tostring(seen))
    assert.same({ 3 }, drain(q))
  end)

  it("passes the room on when the kill is there before the get", function()
    local q, seen = Queue(1, { 1 }), support.trace()
    local list = putters(q, { 2, 3 }, seen)
    list[1]:kill(nil, 0)
    q:get()
    moonlet.joinall(list)
    assert.equal("put 3", tostring(seen))
    assert.same({ 3 }, drain(q))
  end)

  it("lets an outer Timeout through, and raises a started one given as its timeout", function()
    local q = Queue(1, { 1 })
    local outer <close> = moonlet.Timeout.start_new(0.001)
    assert.equal(outer, support.error_of(q.put, q, 2, 5))
    local own <close> = moonlet.Timeout.start_new(0.001)
    assert.equal(own, support.error_of(q.put, q, 3, own))
    assert.same({ 1 }, drain(q))
  end)

  it("is let in when maxsize is raised, or set to nil", function()
    local q, seen = Queue(1, { 1 }), support.trace()
    local list = putters(q, { 2, 3, 4 }, seen)
    q.maxsize = 2
    support.turns()
    assert.equal("put 2", tostring(seen))
    q.maxsize = nil
    moonlet.joinall(list)
    assert.is_false(q:full())
    assert.same({ 1, 2, 3, 4 }, drain(q))
  end)
end)
