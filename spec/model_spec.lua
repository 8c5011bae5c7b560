-- Random programs over the data structures, checked against simple models: nothing lost, nothing
-- doubled, no waiter left behind, first come first served, and the same seed gives the same trace.

local moonlet = require "moonlet"
local event = require "moonlet.event"
local lock = require "moonlet.lock"
local pool = require "moonlet.pool"
local queue = require "moonlet.queue"
local support = require "support"
local testing = require "moonlet.testing"

-- A generator of its own, so that nothing else draws from it: random(n) is one of 1..n.
local function generator(seed)
  local state = seed * 2654435761 % 4294967296
  return function(n)
    state = (state * 1664525 + 1013904223) % 4294967296
    return (state >> 8) % n + 1
  end
end

-- Runs program(random, ...) by the virtual clock for each seed; a failure tells the seed.
local function for_seeds(count, program, ...)
  support.unbounded()
  for seed = 1, count do
    local ok, err = xpcall(testing.virtual_clock, debug.traceback, program, generator(seed), ...)
    if not ok then
      error(("seed %d: %s"):format(seed, tostring(err)), 0)
    end
  end
end

-- One of the ways to bound a wait: none, not at all, or some milliseconds.
local function random_timeout(random)
  local choice = random(4)
  if choice == 1 then
    return nil
  elseif choice == 2 then
    return 0
  end
  return random(20) / 1000
end

local function pause(random)
  local choice = random(3)
  if choice == 1 then
    moonlet.sleep(0)
  elseif choice == 2 then
    moonlet.sleep(random(10) / 1000)
  end
end

-- f(...), called plainly, or from a C function that pins the greenlet's C stack when it blocks, or
-- in a coroutine of its own.
local function anywhere(random, f, ...)
  local choice = random(4)
  if choice == 1 then
    local arguments, results = table.pack(...), nil
    table.sort({ 1, 2 }, function(a, b)
      results = results or table.pack(f(table.unpack(arguments, 1, arguments.n)))
      return a < b
    end)
    return table.unpack(results, 1, results.n)
  elseif choice == 2 then
    return coroutine.wrap(f)(...)
  end
  return f(...)
end

-- A greenlet that kills some of the list, now and then, while the program runs.
local function killer(random, list, kills)
  return moonlet.spawn(function()
    for _ = 1, kills do
      moonlet.sleep(random(30) / 1000)
      moonlet.kill(list[random(#list)])
    end
  end)
end

describe("a queue against its model, one step at a time:", function()
  local kinds = {
    Queue = function(items) return table.remove(items, 1) end,
    LifoQueue = function(items) return table.remove(items) end,
    PriorityQueue = function(items)
      table.sort(items)
      return table.remove(items, 1)
    end,
  }

  for kind, take in pairs(kinds) do
    it(kind .. " holds, gives and refuses what the model does, over thousands of steps", function()
      for seed = 1, 10 do
        local random = generator(seed)
        local size = random(6)
        local q, items = queue[kind](size), {}
        for step = 1, 500 do
          local choice = random(5)
          if choice <= 2 then
            local item = step * 1000 + random(1000)
            if kind == "PriorityQueue" then
              item = random(100)
            end
            local ok, err = q:put_nowait(item)
            if #items < size then
              assert.is_true(ok)
              items[#items + 1] = item
            else
              assert.equal(queue.Full, err)
            end
          elseif choice <= 4 then
            local peeked = q:peek_nowait()
            local item, err = q:get_nowait()
            if #items == 0 then
              assert.equal(queue.Empty, err)
            else
              assert.equal(take(items), item)
              assert.equal(item, peeked)
            end
          elseif random(10) == 1 then
            size = random(6)
            q.maxsize = size
          end
          assert.equal(#items, q:qsize())
          assert.equal(#items == 0, q:empty())
          assert.equal(#items >= size, q:full())
        end
      end
    end)
  end
end)

describe("random producers and consumers", function()
  -- Producers number their items, so that each consumer's view of one producer must rise.
  local function program(random, q, trace)
    local put, got, list = {}, {}, {}
    local fifo = not q:is(queue.LifoQueue) and not q:is(queue.PriorityQueue)
    for p = 1, 5 do
      list[#list + 1] = moonlet.spawn(function()
        for n = 1, 40 do
          local item = p * 1000 + n
          local limit = random_timeout(random)
          if limit and random(3) == 1 then
            local _, ok = pcall(moonlet.with_timeout, limit, anywhere, random, q.put, q, item)
            put[item] = ok == true or nil
          else
            put[item] = anywhere(random, q.put, q, item, limit)
          end
          trace("put", item, put[item])
          pause(random)
        end
      end)
    end
    local last = {}
    for c = 1, 5 do
      list[#list + 1] = moonlet.spawn(function()
        while true do
          local item, err = anywhere(random, q.get, q, random_timeout(random))
          trace(c, item or err)
          if item then
            assert.is_nil(got[item])
            got[item] = true
            local p = item // 1000
            assert.is_true(not fifo or item > (last[p] or 0))
            last[p] = item
          elseif err == queue.ShutDown then
            return
          end
          pause(random)
        end
      end)
    end
    local assassin = killer(random, list, 6)
    moonlet.joinall(list, 10)
    q:shutdown()
    moonlet.joinall(list, 10)
    assassin:join()
    for _, g in ipairs(list) do
      assert.is_true(g:successful(), g.traceback)
    end
    while not q:empty() do
      local item = q:get()
      assert.is_nil(got[item])
      got[item] = true
    end
    assert.same(put, got)
  end

  local function ignore() end

  for _, kind in ipairs { "Queue", "LifoQueue", "PriorityQueue" } do
    it("lose and double nothing over a " .. kind .. ", whatever is killed or times out", function()
      for_seeds(8, function(random)
        program(random, queue[kind](random(8) - 1), ignore)
      end)
    end)
  end

  it("lose and double nothing over a PriorityQueue whose order function blocks", function()
    for_seeds(8, function(random)
      program(random, queue.PriorityQueue(random(8) - 1, nil, function(a, b)
        pause(random)
        return a < b
      end), ignore)
    end)
  end)

  it("lose and double nothing when greenlets run in a shuffled order", function()
    support.unbounded()
    for seed = 1, 5 do
      testing.shuffle(seed, testing.virtual_clock, function()
        program(generator(seed), queue.Queue(3), ignore)
      end)
    end
  end)

  it("leave the same trace each time for the same seed, another for another", function()
    local function traced(seed)
      local trace = support.trace()
      testing.virtual_clock(program, generator(seed), queue.Queue(3), trace)
      return tostring(trace)
    end
    support.unbounded()
    local first = traced(7)
    assert.equal(first, traced(7))
    assert.are_not.equal(first, traced(8))
  end)
end)

describe("random meetings at a Channel", function()
  it("hand each item over once, to one who returns it, or to nobody when its put failed", function()
    for_seeds(8, function(random)
      local channel, put, got, list = queue.Channel(), {}, {}, {}
      for p = 1, 6 do
        list[#list + 1] = moonlet.spawn(function()
          for n = 1, 30 do
            local item = p * 1000 + n
            put[item] = anywhere(random, channel.put, channel, item, random(20) / 1000)
            pause(random)
          end
        end)
        list[#list + 1] = moonlet.spawn(function()
          for _ = 1, 30 do
            local item = anywhere(random, channel.get, channel, random(20) / 1000)
            if item then
              assert.is_nil(got[item])
              got[item] = true
            end
            pause(random)
          end
        end)
      end
      moonlet.joinall(list, nil, true)
      assert.same(put, got)
      assert.equal(0, channel.balance)
    end)
  end)
end)

describe("random workers on a JoinableQueue", function()
  it("are all done, and nothing else is, when join returns", function()
    for_seeds(8, function(random)
      local q, done, total = queue.JoinableQueue(random(4)), 0, 0
      local workers = pool.Group()
      for _ = 1, 4 do
        workers:spawn(function()
          for _ in q do
            pause(random)
            done = done + 1
            q:task_done()
          end
        end)
      end
      for _ = 1, 10 do
        for _ = 1, random(20) do
          total = total + 1
          q:put(total)
        end
        assert.is_true(q:join())
        assert.equal(total, done)
        assert.equal(0, q.unfinished_tasks)
      end
      q:shutdown()
      workers:join()
    end)
  end)
end)

describe("random holders of a semaphore", function()
  it("are never more than its permits, and all permits come back", function()
    for_seeds(10, function(random)
      local permits = random(3)
      local sem, held, list = lock.BoundedSemaphore(permits), 0, {}
      for i = 1, 10 do
        list[i] = moonlet.spawn(function()
          for _ = 1, 30 do
            local guard <close> = anywhere(random, sem.hold, sem, random_timeout(random))
            if guard then
              held = held + 1
              local _ <close> = setmetatable({}, { __close = function() held = held - 1 end })
              assert.is_true(held <= permits)
              pause(random)
            end
          end
        end)
      end
      killer(random, list, 6):join()
      moonlet.joinall(list, nil, true)
      assert.equal(0, held)
      assert.equal(permits, sem.counter)
    end)
  end)

  it("that all wait get their permits in the order of waiting, less those that left", function()
    for_seeds(20, function(random)
      local sem, served, expected, list = lock.Semaphore(0), {}, {}, {}
      local limits = {}
      for i = 1, 50 do
        limits[i] = random(3) == 1 and random(5) / 1000 or nil
        list[i] = moonlet.spawn(function()
          if sem:acquire(limits[i]) then
            served[#served + 1] = i
          end
        end)
      end
      moonlet.sleep(0)
      for i = 1, 50 do
        if random(4) == 1 then
          moonlet.kill(list[i])
        elseif not limits[i] then
          expected[#expected + 1] = i
        end
      end
      moonlet.sleep(1)
      while #served < #expected do
        for _ = 1, random(4) do
          sem:release()
        end
        pause(random)
        moonlet.sleep(0)
      end
      moonlet.joinall(list)
      assert.same(expected, served)
    end)
  end)

  it("of an RLock are alone in it, however deep they take it", function()
    for_seeds(10, function(random)
      local l, owner, list = lock.RLock(), nil, {}
      local function enter(me, depth)
        local guard <close> = l:hold(depth > 1 and 0 or random_timeout(random))
        if guard then
          assert.is_true(owner == nil or owner == me)
          owner = me
          pause(random)
          if depth < 4 then
            enter(me, depth + 1)
          end
          if depth == 1 then
            owner = nil
          end
        else
          assert.equal(1, depth)
        end
      end
      for i = 1, 8 do
        list[i] = moonlet.spawn(function()
          for _ = 1, 20 do
            enter(i, 1)
          end
        end)
      end
      moonlet.joinall(list, nil, true)
      assert.is_false(l:locked())
    end)
  end)
end)

describe("random waiters of an Event", function()
  it("get what the model says: true for those whose time is not up at the set, in order", function()
    for_seeds(30, function(random)
      local e, woken, expected, list = event.Event(), {}, {}, {}
      local set_at = 100 + 2 * random(50)
      for i = 1, 40 do
        local limit = 2 * random(150) + 1
        expected[i] = limit > set_at
        list[i] = moonlet.spawn(function()
          local ok = e:wait(limit)
          assert.equal(expected[i], ok)
          if ok then
            woken[#woken + 1] = i
          end
        end)
      end
      list[#list + 1] = moonlet.spawn_later(set_at, e.set, e)
      moonlet.joinall(list, nil, true)
      local order = {}
      for i = 1, 40 do
        if expected[i] then
          order[#order + 1] = i
        end
      end
      assert.same(order, woken)
    end)
  end)
end)

describe("random work in a Pool", function()
  it("runs each job once, never more than fit, and frees every slot, whatever is killed", function()
    for_seeds(10, function(random)
      local size = random(5)
      local p, running, begun, ended = pool.Pool(size), 0, {}, 0
      local function job(id)
        begun[id] = (begun[id] or 0) + 1
        running = running + 1
        local _ <close> = setmetatable({}, { __close = function()
          running = running - 1
          ended = ended + 1
        end })
        assert.is_true(running <= size)
        pause(random)
        pause(random)
      end
      local spawners, spawned = {}, 0
      for s = 1, 4 do
        spawners[s] = moonlet.spawn(function()
          for n = 1, 25 do
            local g = anywhere(random, p.spawn, p, job, s * 100 + n)
            spawned = spawned + 1
            if random(5) == 1 then
              moonlet.kill(g)
            end
            pause(random)
          end
        end)
      end
      killer(random, spawners, 2):join()
      moonlet.joinall(spawners)
      assert.is_true(p:join())
      assert.equal(0, running)
      assert.equal(size, p:free_count())
      local count = 0
      for _, times in pairs(begun) do
        assert.equal(1, times)
        count = count + 1
      end
      assert.equal(count, ended)
      assert.is_true(count <= spawned)
    end)
  end)

  it("maps and imaps in the order of the input, whatever takes how long", function()
    for_seeds(10, function(random)
      local p, list = pool.Pool(random(5)), {}
      for i = 1, 60 do
        list[i] = i
      end
      local function f(x)
        pause(random)
        return x
      end
      assert.same(list, p:map(f, list))
      local results = {}
      for x in p:imap(f, list, random(10)) do
        results[#results + 1] = x
        pause(random)
      end
      assert.same(list, results)
      results = {}
      for x in p:imap_unordered(f, list, random(10)) do
        results[#results + 1] = x
        pause(random)
      end
      table.sort(results)
      assert.same(list, results)
      assert.equal(p.size, p:free_count())
    end)
  end)
end)
