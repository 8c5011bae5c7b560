-- growth.lua MEASURE SIZE: what an operation costs among so many others. The work is repeated where
-- the size is small. Prints lines of NAME, VALUE and UNIT; times are of CPU.

local moonlet = require "moonlet"
local bench = require "bench"

local name, size = arg[1], tonumber(arg[2])
local spawn, sleep = moonlet.spawn, moonlet.sleep

-- How often work on `size` things is done, to have done about `total` of it.
local function times(total)
  return math.max(1, total // size)
end

-- Nanoseconds of CPU for each of `count` operations that f does.
local function cost(metric, count, f, ...)
  local begun = bench.cpu()
  f(...)
  bench.result(metric, (bench.cpu() - begun) / count * 1e9, "ns")
end

-- `size` greenlets of f(i), which have begun and wait for something.
local function spawn_all(f)
  local greenlets = {}
  for i = 1, size do
    greenlets[i] = spawn(f, i)
  end
  sleep(0)
  return greenlets
end

-- Lets all that are ready run, so many times.
local function pass(turns)
  for _ = 1, turns do
    sleep(0)
  end
end

-- Calls f, as a function that Lua cannot yield across does.
local function inside_callback(f)
  return (("x"):gsub("x", f))
end

local function for_ever(wait)
  return function()
    while true do
      wait()
    end
  end
end

local function nothing() end

-- The bytes that f takes for each; those of a few are lost among the pages.
local function memory(f)
  collectgarbage()
  local before = bench.resident() + bench.page_tables()
  f()
  if size >= 1000 then
    bench.result("mem_each", (bench.resident() + bench.page_tables() - before) / size, "bytes")
  end
end

local measures = {}

function measures.switch()
  spawn_all(for_ever(sleep))
  local turns = times(400000)
  cost("switch", turns * size, pass, turns)
end

function measures.spawn()
  local rounds = times(200000)
  cost("spawn", rounds * size, function()
    for _ = 1, rounds do
      local greenlets = {}
      for i = 1, size do
        greenlets[i] = spawn(nothing)
      end
      moonlet.joinall(greenlets)
    end
  end)
end

-- Each sleeps once, long enough for all of them to be asleep.
function measures.park()
  local seconds = 0.002 + size * 1e-5
  local created, woken = 0, 0
  local rounds = times(2000)
  for _ = 1, rounds do
    local asleep = 0
    local function body()
      asleep = asleep + 1
      sleep(seconds)
      asleep = asleep - 1
    end
    local begun = bench.cpu()
    spawn_all(body)
    local between = bench.cpu()
    assert(asleep == size, "some woke before all were asleep")
    moonlet.wait()
    created, woken = created + between - begun, woken + bench.cpu() - between
  end
  bench.result("create_each", created / (rounds * size) * 1e9, "ns")
  bench.result("wake_each", woken / (rounds * size) * 1e9, "ns")
end

function measures.memory()
  memory(function()
    spawn_all(function()
      sleep(3600)
    end)
  end)
end

-- Each sleeps for a random part of a second.
function measures.sleepers()
  local random = math.random
  math.randomseed(42)
  cost("sleeper", size, function()
    spawn_all(function()
      sleep(random())
    end)
    moonlet.wait()
  end)
end

-- One Timeout that never fires, while many wait for others.
function measures.timeout()
  local start_new, close = moonlet.Timeout.start_new, moonlet.Timeout.close
  spawn_all(function(i)
    sleep(1000 + i * 7919 % size)
  end)
  cost("timeout", 200000, function()
    for _ = 1, 200000 do
      close(start_new(1500))
    end
  end)
end

local function fill_and_drain(queue, items)
  local rounds, put, get = times(300000), queue.put, queue.get
  cost("item", rounds * size, function()
    for _ = 1, rounds do
      for i = 1, size do
        put(queue, items and items[i] or i)
      end
      for _ = 1, size do
        get(queue)
      end
    end
  end)
end

function measures.queue()
  fill_and_drain(require("moonlet.queue").Queue())
end

function measures.priority()
  local items = {}
  math.randomseed(42)
  for i = 1, size do
    items[i] = math.random(1 << 40)
  end
  fill_and_drain(require("moonlet.queue").PriorityQueue(), items)
end

function measures.event()
  local event = require("moonlet.event").Event()
  spawn_all(for_ever(function()
    event:wait()
  end))
  local turns = times(300000)
  cost("waiter", turns * size, function()
    for _ = 1, turns do
      event:set()
      event:clear()
      sleep(0)
    end
  end)
end

-- Each holds the lock for a turn.
function measures.lock()
  local lock = require("moonlet.lock").Lock()
  local handovers, enough = 0, 200000
  spawn_all(for_ever(function()
    lock:acquire()
    handovers = handovers + 1
    sleep(0)
    lock:release()
  end))
  cost("handover", enough, function()
    enough = enough + handovers
    while handovers < enough do
      sleep(0)
    end
  end)
end

-- Waiters that leave their event in no order.
function measures.kill()
  local event = require("moonlet.event").Event()
  local greenlets = spawn_all(function()
    event:wait()
  end)
  math.randomseed(42)
  for i = size, 2, -1 do
    local j = math.random(i)
    greenlets[i], greenlets[j] = greenlets[j], greenlets[i]
  end
  cost("kill", size, moonlet.killall, greenlets)
end

function measures.pinned()
  memory(function()
    spawn_all(function()
      inside_callback(for_ever(sleep))
    end)
  end)
  local turns = times(200000)
  cost("switch", turns * size, pass, turns)
end

-- Takes the values of a generator that blocks before each.
local function stream()
  local generator = coroutine.wrap(for_ever(function()
    sleep(0)
    coroutine.yield(true)
  end))
  for _ in generator do -- luacheck: ignore
  end
end

function measures.stream()
  memory(function()
    spawn_all(stream)
  end)
  local turns = times(200000)
  cost("item", turns * size, pass, turns)
end

-- The other end of `echo`: another process, which ends without the kernel's having to remember its
-- connections.
local function clients(port, active, requests)
  local socket, connections = require "moonlet.socket", {}
  for i = 1, size do
    connections[i] = assert(socket.connect("127.0.0.1", port))
    connections[i]:setoption("linger", { on = true, timeout = 0 })
  end
  assert(connections[size]:recv(1)) -- when the other end is ready
  local greenlets, message = {}, ("x"):rep(64)
  for i = 1, active do
    greenlets[i] = spawn(function()
      for _ = 1, requests do
        connections[i]:send(message)
        assert(connections[i]:recv(16384) == message)
      end
    end)
  end
  moonlet.joinall(greenlets)
end

-- Echoes on `size` connections, of which the first `active` make requests.
local function echo(active)
  local requests = 50000 // active
  local server = assert(require("moonlet.socket").bind("127.0.0.1", 0, 1024))
  local _, port = server:getsockname()
  if require("moonlet.os").fork() == 0 then
    clients(port, active, requests)
    os.exit(0, false)
  end

  local left, done = requests * active, require("moonlet.event").Event()
  local function serve(connection)
    while true do
      connection:send(connection:recv(16384))
      left = left - 1
      if left == 0 then
        done:set()
      end
    end
  end

  local last
  memory(function()
    for _ = 1, size do
      last = assert(server:accept())
      spawn(serve, last)
    end
    sleep(0)
  end)
  cost("request", left, function()
    last:send(".")
    done:wait()
  end)
end

function measures.echo()
  echo(size)
end

function measures.idle()
  echo(10)
end

measures[name]()
os.exit(0, false) -- to end so many greenlets would take its time, too
