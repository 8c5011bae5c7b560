-- Random programs, the same ones every time: greenlets that block in all kinds of waits in all
-- kinds of places are killed, timed out and shielded. Nothing may get lost or stay behind.

local event = require "moonlet.event"
local lock = require "moonlet.lock"
local moonlet = require "moonlet"
local places = require "support.places"
local pool = require "moonlet.pool"
local queue = require "moonlet.queue"
local support = require "support"
local testing = require "moonlet.testing"

local random = math.random

local function pick(list)
  return list[random(#list)]
end

-- A timeout argument: none, past, or soon; or a started Timeout, which raises.
local function some_timeout()
  return pick { 0, -1, 0.001, 0.002, 0.005, moonlet.Timeout.start_new(0.003) }
end

local function brief()
  moonlet.sleep(pick { 0, 0, 0.001, 0.002 })
end

-- ---- what the greenlets of one program share ----

local function new_world()
  return {
    event = event.Event(),
    result = event.AsyncResult(),
    semaphore = lock.Semaphore(2),
    inside = 0,
    rlock = lock.RLock(),
    condition = lock.Condition(),
    queues = { queue.Queue(), queue.Queue(2), queue.LifoQueue(1), queue.PriorityQueue(2),
               queue.Channel() },
    put = 0,
    got = 0,
    pool = pool.Pool(2),
    workers = {},
    links = 0,
  }
end

-- ---- waits: each raises nothing of its own but what kills and Timeouts raise ----

local waits = {}

waits.turn = brief

function waits.event(world)
  world.event:wait(some_timeout())
end

function waits.result(world)
  world.result:wait(some_timeout())
end

function waits.put(world)
  if pick(world.queues):put(random(100), some_timeout()) then
    world.put = world.put + 1
  end
end

function waits.get(world)
  if pick(world.queues):get(some_timeout()) then
    world.got = world.got + 1
  end
end

function waits.peek(world)
  world.queues[random(4)]:peek(some_timeout())
end

function waits.semaphore(world)
  local guard <close> = world.semaphore:hold(some_timeout())
  if guard then
    world.inside = world.inside + 1
    assert(world.inside <= 2, "more are inside than the semaphore permits")
    local _ <close> = setmetatable({}, { __close = function()
      world.inside = world.inside - 1
    end })
    brief()
  end
end

function waits.rlock(world)
  local outer <close> = world.rlock:hold(some_timeout())
  if outer then
    local inner <close> = world.rlock:hold()
    brief()
    assert(inner)
  end
end

function waits.condition(world)
  local guard <close> = world.condition:hold()
  assert(guard)
  if random(3) == 1 then
    world.condition:notify(random(2))
  else
    world.condition:wait(some_timeout())
  end
end

function waits.join(world)
  pick(world.workers):join(some_timeout())
end

function waits.joinall(world)
  moonlet.joinall({ pick(world.workers), pick(world.workers) }, some_timeout())
end

function waits.several(world)
  local list = { world.event, pick(world.workers), world.semaphore, pick(world.queues) }
  moonlet.wait(list, some_timeout(), random(0, 3))
end

function waits.one_by_one(world)
  local list = { pick(world.workers), world.event, world.semaphore }
  for _ in moonlet.iwait(list, some_timeout()) do
    if random(2) == 1 then
      break
    end
  end
end

function waits.pool(world)
  world.pool:spawn(brief)
end

function waits.imap(world)
  for _ in world.pool:imap(brief, { 1, 2, 3 }, 1) do
    if random(3) == 1 then
      break
    end
  end
end

function waits.nursery()
  local failing = random(3) == 1
  local ok, err = pcall(pool.nursery, function(nursery)
    nursery:spawn(brief)
    nursery:spawn(function()
      brief()
      if failing then
        error("a child's failure", 0)
      end
    end)
    brief()
  end)
  if not ok and err ~= "a child's failure" then
    error(err, 0)
  end
end

function waits.child()
  local child <close> = moonlet.spawn(brief)
  brief()
  assert(child:join(0.01))
end

function waits.links(world)
  local function note()
    world.links = world.links + 1
    brief()
  end
  local worker = pick(world.workers)
  worker:link(note)
  worker:rawlink(function()
    world.links = world.links + 1
  end)
  brief()
  worker:unlink(note)
end

local wait_names = {}
for name in pairs(waits) do
  wait_names[#wait_names + 1] = name
end
table.sort(wait_names)

-- ---- bounds: ways in which a wait may be wrapped ----

local bounds = {
  function(f)
    f()
  end,
  function(f)
    pcall(f)
  end,
  function(f)
    moonlet.try(f)
  end,
  function(f)
    moonlet.with_timeout(pick { 0, 0.001, 0.003 }, f)
  end,
  function(f)
    moonlet.with_timeout(0.002, moonlet.with_timeout, pick { 0.001, 0.002, 0.003 }, f)
  end,
  function(f)
    moonlet.Timeout(0.002, false):run(f)
  end,
  function(f)
    local outer <close> = moonlet.Timeout.start_new(0.003, "late")
    local inner <close> = moonlet.Timeout.start_new(0.002)
    f()
    return outer, inner
  end,
  function(f)
    moonlet.shield(brief)
    f()
  end,
  function(f)
    local _ <close> = setmetatable({}, { __close = brief })
    f()
  end,
  function(f)
    local generate = coroutine.wrap(function()
      f()
      coroutine.yield()
    end)
    generate() -- and never again
  end,
}

-- ---- a program ----

local function work(world, steps)
  for _ = 1, steps do
    local wait, bound, place = waits[pick(wait_names)], pick(bounds), pick(places)
    local function in_bounds()
      bound(function()
        wait(world)
      end)
    end
    if random(4) > 1 then
      pcall(place.run, in_bounds)
    else
      place.run(in_bounds)
    end
  end
end

local collect = {
  function() collectgarbage("step", random(100)) end,
  function() collectgarbage() end,
  function() collectgarbage(random(2) == 1 and "generational" or "incremental") end,
}

local actions = {
  function(world) moonlet.kill(pick(world.workers)) end,
  function(world) moonlet.kill(pick(world.workers), { "a table" }) end,
  function(world) pick(world.workers):kill("text", 0) end,
  function(world) moonlet.killall({ pick(world.workers), pick(world.workers) }, nil, 0.001) end,
  function(world) world.event:set() end,
  function(world) world.event:clear() end,
  function(world) world.result:set(random(9)) end,
  function(world) world.pool:kill(nil, 0.001) end,
  function(world) table.insert(world.workers, moonlet.spawn(work, world, 3)) end,
  function() pick(collect)() end,
}

-- Kills whatever lives until all are dead: a worker may swallow what is raised in it.
local function finish(world)
  for _ = 1, 1000 do
    if moonlet.killall(world.workers, nil, 0.005) then
      break
    end
  end
  assert(#moonlet.joinall(world.workers, 0) == #world.workers, "a worker lives on")
  assert(world.pool:kill(nil, 1), "the pool is not empty")
  support.turns(20)
  moonlet.sleep(0.05)
end

local function run(seed)
  math.randomseed(seed)
  local world = new_world()
  for i = 1, 12 do
    world.workers[i] = moonlet.spawn(work, world, 12)
  end
  for _ = 1, 60 do
    pick(actions)(world)
    brief()
  end
  finish(world)
  return world
end

local function in_queues(world)
  local left = 0
  for _, q in ipairs(world.queues) do
    left = left + q:qsize()
  end
  return left
end

local function check(world)
  assert.equal(2, world.semaphore.counter)
  assert.equal(0, world.inside)
  assert.is_false(world.rlock:locked())
  assert.is_false(world.condition:locked())
  assert.equal(world.put, world.got + in_queues(world))
  assert.equal(0, world.queues[5].balance)
  assert.equal(0, #world.pool)
  assert.equal(2, world.pool:free_count())
end

describe("A random program", function()
  after_each(function()
    collectgarbage("incremental")
  end)

  it("loses nothing and leaves nothing behind", function()
    support.uncaught()
    local finish_by = support.clock() + 1.5
    for seed = 1, 25 do
      check(testing.virtual_clock(testing.no_leaks, run, seed))
      if support.clock() > finish_by then
        break
      end
    end
  end)

  it("neither does in any order of what is ready", function()
    support.uncaught()
    local finish_by = support.clock() + 1.5
    for seed = 101, 125 do
      check(testing.virtual_clock(testing.no_leaks, testing.shuffle, seed, run, seed))
      if support.clock() > finish_by then
        break
      end
    end
  end)
end)
