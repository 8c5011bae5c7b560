-- 4. Fetching from a server, one by one and all at once
-- LuaSocket's http knows nothing of greenlets. Patched before it is loaded, it waits for one server
-- and lets the others be asked meanwhile: nine requests take as long as one. The server is here in
-- the same program, and takes 0.05 s for each answer.

require("moonlet.monkey").patch_all()

local http = require "socket.http"
local moonlet = require "moonlet"
local socket = require "socket"

local DELAY = 0.05

local function answer(client)
  repeat
    local line = client:receive()
  until not line or line == ""
  socket.sleep(DELAY)
  local text = ('{"datetime": "%s"}'):format(os.date("%H:%M:%S"))
  client:send(("HTTP/1.0 200 OK\r\nContent-Length: %d\r\n\r\n%s"):format(#text, text))
  client:close()
end

local function serve(server)
  while true do
    moonlet.spawn(answer, server:accept())
  end
end

local server = assert(socket.bind("127.0.0.1", 0))
local _, port = server:getsockname()
moonlet.spawn(serve, server)

local function fetch(n)
  local body = assert(http.request(("http://127.0.0.1:%d/"):format(port)))
  print(("Process %d: %s"):format(n, body:match('"datetime": "(.-)"')))
end

local function synchronous()
  for n = 1, 9 do
    fetch(n)
  end
end

local function asynchronous()
  local greenlets = {}
  for n = 1, 9 do
    greenlets[n] = moonlet.spawn(fetch, n)
  end
  moonlet.joinall(greenlets, nil, true)
end

local function timed(title, f)
  print(title .. ":")
  local start = socket.gettime()
  f()
  print(("%.3f seconds"):format(socket.gettime() - start))
end

timed("Synchronous", synchronous)
timed("Asynchronous", asynchronous)
