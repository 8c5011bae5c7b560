-- Server-sent events: a price that changes, and a page that draws it.
--
--     moonlet scripts/examples/ticker/server.lua [PORT [SECONDS]]
--
-- and then http://127.0.0.1:8000/ in a browser. One greenlet makes the prices; each page has a
-- request whose answer never ends, and whose greenlet waits for the next price. A page that comes
-- back after a lost connection says what it has seen last, and gets what it has missed.

local event = require "moonlet.event"
local moonlet = require "moonlet"
local wsapi = require "moonlet.wsapi"

local PORT, PERIOD = 8000, 0.5
local KEPT = 120 -- prices that are remembered

local folder = arg[0]:match("^(.*/)") or "./"
local port, period = tonumber(arg[1] or PORT), tonumber(arg[2] or PERIOD)

-- ---- prices ----

local prices, count = {}, 0 -- by number, the last ones only
local news = event.Event()

local function tick()
  local price = 100
  while true do
    price = math.max(price + (math.random() - 0.5) * 4, 1)
    count = count + 1
    prices[count] = ("%.2f"):format(price)
    prices[count - KEPT] = nil
    news:set() -- wakes all that wait now
    news:clear()
    moonlet.sleep(period)
  end
end

-- ---- the server ----

-- An iterator over events from behind number `seen` on, without end.
local function stream(seen)
  return function()
    while seen >= count do
      news:wait()
    end
    seen = math.max(seen + 1, count - KEPT + 1)
    return ("id: %d\ndata: %s\n\n"):format(seen, prices[seen])
  end
end

-- The last number that a client has seen; what is before the first one it wants.
local function last_seen(env)
  local seen = math.tointeger(tonumber(env.HTTP_LAST_EVENT_ID))
  return seen and seen >= 0 and seen <= count and seen or math.max(count - KEPT, 0)
end

local function page()
  local file <close> = assert(io.open(folder .. "page.html"))
  return file:read("a")
end

local function app(env)
  if env.PATH_INFO == "/prices" then
    return 200, { ["Content-Type"] = "text/event-stream", ["Cache-Control"] = "no-store" },
           stream(last_seen(env))
  elseif env.PATH_INFO == "/" then
    return 200, { ["Content-Type"] = "text/html; charset=utf-8" }, page()
  end
  return 404, { ["Content-Type"] = "text/plain" }, "not found\n"
end

local ticker <close> = moonlet.spawn(tick)
local server = wsapi.WSAPIServer({ "127.0.0.1", port }, app, { log = false })
assert(server:start())
print(("Listening on http://127.0.0.1:%d/"):format(server.address[2]))
io.stdout:flush()
server:serve_forever(0) -- streams have no end to wait for
ticker:kill()
