-- A chat with rooms, and a page for it.
--
--     moonlet scripts/examples/chat/server.lua [PORT]
--
-- and then http://127.0.0.1:8000/ in two windows of a browser. The page learns what is said through
-- a WebSocket; where there is none, or with http://127.0.0.1:8000/?poll, by long polling: it always
-- has a request waiting, which is answered once there is something to tell. Either takes no more
-- than a greenlet or two. The chat itself is in rooms.lua, its requests are in app.lua.

local folder = arg[0]:match("^(.*/)") or "./"
package.path = folder .. "?.lua;" .. package.path

local app = require "app"
local moonlet = require "moonlet"
local wsapi = require "moonlet.wsapi"

local PORT = 8000
local ROOMS = { "lobby", "music", "lua" }

local port = tonumber(arg[1] or PORT)
local chat = app.new { rooms = ROOMS, folder = folder .. "page/" }
local server = wsapi.WSAPIServer({ "127.0.0.1", port }, chat, { log = false })

local sweeper <close> = moonlet.spawn(chat.sweep, chat)
assert(server:start())
print(("Listening on http://127.0.0.1:%d/"):format(server.address[2]))
io.stdout:flush()
server:serve_forever()
sweeper:kill()
