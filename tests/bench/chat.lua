-- How many messages the chat of scripts/examples delivers a second, on one worker and on two.
--
--     build/moonlet tests/bench/chat.lua [BUILD [LISTENERS [SECONDS]]]
--
-- People in a few rooms listen by WebSockets; one in each room writes, and always has some messages
-- on their way. A delivery is a message that one of the listeners has got. Redis, the server and
-- the process of the clients share the machine: with fewer than four cores they are in each
-- other's way, so the CPU time of the workers for a delivery is told as well.

local moonlet = require "moonlet"
local socket = require "moonlet.socket"
local subprocess = require "moonlet.subprocess"
local websocket = require "moonlet.websocket"
local http = require "moonlet.http"

local BUILD = arg[1] or "build"
local LISTENERS = tonumber(arg[2] or 60)
local SECONDS = tonumber(arg[3] or 5)
local ROOMS = { "lobby", "music", "lua" }
local WINDOW = 4 -- messages of a writer that are on their way
local TICKS = 100 -- of /proc/PID/stat in a second

local function start(args)
  return assert(subprocess.Popen { args = args, stdin = subprocess.DEVNULL,
                                   stdout = subprocess.PIPE, stderr = subprocess.DEVNULL })
end

local function free_port()
  local probe <close> = assert(socket.bind("127.0.0.1", 0))
  return (select(2, probe:getsockname()))
end

local function start_redis()
  local port = free_port()
  local process = start { "redis-server", "--port", tostring(port), "--bind", "127.0.0.1",
                          "--save", "", "--appendonly", "no" }
  repeat
    moonlet.sleep(0.05)
    local client = socket.connect("127.0.0.1", port)
  until client and client:close()
  return process, port
end

local function slurp(path)
  local file <close> = assert(io.open(path))
  return file:read("a")
end

-- Seconds of CPU that the workers of a server have had.
local function cpu(pid)
  local sum = 0
  for child in slurp(("/proc/%d/task/%d/children"):format(pid, pid)):gmatch("%d+") do
    local user, system = slurp("/proc/" .. child .. "/stat"):match(
      "^%d+ %b() %S+" .. (" %S+"):rep(10) .. " (%d+) (%d+)")
    sum = sum + user + system
  end
  return sum / TICKS
end

local function enter(place, room, name)
  local client <close> = http.Client { proxy = false }
  local response = assert(client:request { url = ("http://%s/%s/%s"):format(place, room, name) })
  assert(response.status == 200 and response:body())
  return assert(websocket.connect(("ws://%s/ws/%s"):format(place, name)))
end

-- Counts what comes by a WebSocket; a writer's goes on whenever one of their messages is back.
local function listen(ws, counts, room, name)
  local own, message = nil, ('{"room": "%s", "message": "%s"}'):format(room, ("x"):rep(60))
  if name then
    own = ('"from":"%s"'):format(name)
    for _ = 1, WINDOW do
      ws:send(message)
    end
  end
  for text in ws do
    counts.deliveries = counts.deliveries + 1
    if own and text:find(own, 1, true) then
      ws:send(message)
    end
  end
end

local function measure(workers)
  local redis, port = start_redis()
  local server = start { BUILD .. "/moonlet", "scripts/examples/chat/server.lua", "0",
                         "--redis", "127.0.0.1:" .. port, "--workers", tostring(workers) }
  local place = assert(server.stdout:read("l")):match("http://([^/]+)/")
  local counts, sockets, greenlets = { deliveries = 0 }, {}, {}
  for i = 1, LISTENERS do
    sockets[i] = enter(place, ROOMS[i % #ROOMS + 1], "u" .. i)
  end
  for i, ws in ipairs(sockets) do
    greenlets[i] = moonlet.spawn(listen, ws, counts, ROOMS[i % #ROOMS + 1],
                                 i <= #ROOMS and "u" .. i or nil)
  end
  moonlet.sleep(1)
  local began, before, spent = moonlet.now(), counts.deliveries, cpu(server.pid)
  moonlet.sleep(SECONDS)
  local count, seconds = counts.deliveries - before, moonlet.now() - began
  print(("%d worker%s, %d listeners: %7.0f deliveries/s, %5.1f us CPU of workers for each"):format(
    workers, workers == 1 and "" or "s", LISTENERS, count / seconds,
    (cpu(server.pid) - spent) / count * 1e6))
  moonlet.killall(greenlets)
  server:kill()
  server:wait()
  redis:kill()
  redis:wait()
end

for _ = 1, 3 do
  measure(1)
  measure(2)
end
