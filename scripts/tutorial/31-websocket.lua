-- 31. WebSockets
-- A server sends numbers to each client that asks, as long as it stays. Given a port, this script
-- is only that server: `moonlet 31-websocket.lua 10000`, and http://127.0.0.1:10000/ in a browser
-- shows the numbers as they come. Without one it is a client, too, and leaves after five messages.

local moonlet = require "moonlet"
local websocket = require "moonlet.websocket"
local wsapi = require "moonlet.wsapi"

local PERIOD = 0.1

-- Waits by receiving: so the server learns that a client has left.
local function feed(ws)
  local x = 0
  repeat
    ws:send(('{"x": %d, "y": %d}'):format(x, math.random(5)))
    x = x + 1
    local _, word = ws:receive(PERIOD)
  until word == "closed"
  print(("The client has left after %d messages."):format(x))
end

local function page()
  local file <close> = assert(io.open((arg[0]:gsub("%.lua$", ".html"))))
  return file:read("a")
end

local function app(env)
  if env.websocket then
    return feed(env.websocket)
  end
  return 200, { ["Content-Type"] = "text/html; charset=utf-8" }, page()
end

local server = wsapi.WSAPIServer({ "127.0.0.1", tonumber(arg[1]) or 0 }, app, { log = false })

if arg[1] then
  server:serve_forever()
  return
end

assert(server:start())
local ws = assert(websocket.connect(("ws://127.0.0.1:%d/"):format(server.address[2])))
for _ = 1, 5 do
  print((assert(ws:receive())))
end
ws:close()
moonlet.sleep(0) -- the server's greenlet has its turn
server:stop()
