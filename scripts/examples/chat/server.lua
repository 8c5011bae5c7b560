-- A chat with rooms, and a page for it.
--
--     moonlet scripts/examples/chat/server.lua [PORT] [--host HOST]
--     moonlet scripts/examples/chat/server.lua [PORT] [--host HOST] --redis HOST:PORT [--workers N]
--
-- and then http://127.0.0.1:8000/ in two windows of a browser. The page learns what is said through
-- a WebSocket; where there is none, or with http://127.0.0.1:8000/?poll, by long polling: it always
-- has a request waiting, which is answered once there is something to tell. Either takes no more
-- than a greenlet or two. The chat itself is in rooms.lua, its requests are in app.lua.
--
-- With --redis what is said is kept there (redis_rooms.lua), and any number of processes on any
-- number of machines are one chat: --workers N makes N of them. ../SCALING.md has more about it.
-- `--expiry SECONDS` is how long a user who is not heard of stays; for tests.

local folder = arg[0]:match("^(.*/)") or "./"
package.path = folder .. "?.lua;" .. package.path

local PORT = 8000
local ROOMS = { "lobby", "music", "lua" }
local USAGE = "usage: server.lua [PORT] [--host HOST] [--redis HOST:PORT [--workers N]]\n"

local function usage()
  io.stderr:write(USAGE)
  os.exit(2)
end

-- Words of the command line: the port, and options with a value each.
local function read_arguments(words)
  local options, i = { port = PORT, host = "127.0.0.1", expiry = 60 }, 1
  while words[i] do
    local name = words[i]:match("^%-%-(%a+)$")
    options[name or "port"] = words[name and i + 1 or i] or usage()
    i = i + (name and 2 or 1)
  end
  options.port = math.tointeger(tonumber(options.port)) or usage()
  options.workers = options.workers and (math.tointeger(tonumber(options.workers)) or usage())
  options.expiry = math.tointeger(tonumber(options.expiry)) or usage()
  return options
end

local options = read_arguments(arg)

-- A chat that other processes share; nil without Redis.
local function shared_chat()
  if not options.redis then
    return options.workers and usage() or nil
  end
  local host, port = options.redis:match("^(.+):(%d+)$")
  require("moonlet.monkey").patch_socket() -- before lua-redis takes LuaSocket's functions
  return require("redis_rooms").new(ROOMS, host or usage(), tonumber(port), options.expiry)
end

local chat = shared_chat()
local app = require("app").new { rooms = ROOMS, folder = folder .. "page/", chat = chat }
local moonlet = require "moonlet"
local wsapi = require "moonlet.wsapi"

local server = wsapi.WSAPIServer({ options.host, options.port }, app,
                                 { log = false, workers = options.workers })
local sweeper <close> = not chat and moonlet.spawn(app.sweep, app) or nil
assert(server:start())
print(("Listening on http://%s:%d/"):format(options.host, server.address[2]))
io.stdout:flush()
server:serve_forever()
if sweeper then
  sweeper:kill()
end
