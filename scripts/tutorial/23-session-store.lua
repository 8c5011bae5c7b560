-- 23. Greenlet locals as a session store
-- The request is put where any function called on the way can find it, without being handed on.
-- Five clients are served at once, and each finds its own.

local moonlet = require "moonlet"
local socket = require "moonlet.socket"
local wsapi = require "moonlet.wsapi"
local stash = require "moonlet.local"()

local function logic()
  moonlet.sleep(0.05) -- meanwhile the others' requests come
  return "Hello " .. stash.request.REMOTE_ADDR .. " " .. stash.request.PATH_INFO
end

local function app(env)
  stash.request = env
  local _ <close> = setmetatable({}, { __close = function() stash.request = nil end })
  return 200, { ["Content-Type"] = "text/plain" }, logic()
end

local server <close> = wsapi.WSAPIServer({ "127.0.0.1", 0 }, app, { log = false })
assert(server:start())

local function client(n)
  local sock <close> = assert(socket.create_connection(server.address))
  assert(sock:send("GET /" .. n .. " HTTP/1.0\r\n\r\n"))
  return assert(sock:receive("*a")):match("\r\n\r\n(.*)")
end

local clients = {}
for n = 1, 5 do
  clients[n] = moonlet.spawn(client, n)
end
for n = 1, 5 do
  print("client " .. n, (clients[n]:get()))
end
