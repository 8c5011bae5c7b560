-- The chat as a WSAPI application. As in the gevent tutorial, whose routes these are:
--
--     GET  /               the page
--     GET  /USER           the rooms
--     GET  /ROOM/USER      joins a room: its backlog, and who is there
--     POST /put/ROOM/USER  says something: the field `message` of a form
--     POST /poll/USER      waits for what happens next: a list, empty if nothing does in time
--
-- and beyond it
--
--     GET  /ws/USER        a WebSocket, on which comes what polls would give, and messages go:
--                          {"room": "ROOM", "message": "TEXT"}; one that is refused comes back
--     POST /leave/USER     leaves all rooms
--     GET  /page/FILE      what the page consists of
--
-- Where several processes serve, any of them will do for the next request: a poll or a WebSocket
-- with ?after=ID, the newest message that the client has, brings all that was said since. (To begin
-- with it is `last` of the answer to the first join. In a single process the user's queue knows.)
--
-- Answers are JSON. A user who joins with a query ?key=SECRET is the only one who may use the
-- name, always with that query; the name is free again once its user has not polled for a minute.

local json = require "dkjson"
local moonlet = require "moonlet"
local rooms = require "rooms"

local POLL_TIMEOUT = 10 -- seconds
local EXPIRY = 60 -- seconds
local MAX_FORM = 32768 -- bytes

-- Whoever does not answer, or take what is sent, is gone.
local SOCKET = { ping_interval = 20, send_timeout = 20, max_message = MAX_FORM }

local STATUS = { ["unknown user"] = 404, ["unknown room"] = 404, ["name taken"] = 409,
                 ["bad name"] = 400, ["bad message"] = 400, ["unavailable"] = 503 }

-- ---- requests and answers ----

local function answer(status, value)
  local headers = { ["Content-Type"] = "application/json", ["Cache-Control"] = "no-store" }
  return status, headers, json.encode(value)
end

local function fail(problem)
  return answer(STATUS[problem], { error = problem })
end

local function unescape(text)
  return (text:gsub("%+", " "):gsub("%%(%x%x)", function(digits)
    return string.char(tonumber(digits, 16))
  end))
end

-- The fields of a form, or of a query.
local function fields(text)
  local found = {}
  for name, value in text:gmatch("([^&=]+)=([^&]*)") do
    found[unescape(name)] = unescape(value)
  end
  return found
end

-- Who asks, as the query has it: the key, and the newest message that is known there.
local function key_of(env)
  local query = fields(env.QUERY_STRING or "")
  return query.key, query.after
end

-- ---- the page ----

local TYPES = { html = "text/html; charset=utf-8", css = "text/css; charset=utf-8",
                js = "text/javascript; charset=utf-8", svg = "image/svg+xml" }

-- Nothing from elsewhere is loaded or run, whatever somebody may write.
local POLICY = "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; " ..
               "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

local FILES = { "index.html", "chat.css", "chat.js", "icon.svg" }

-- The page's files by name, each as { headers, content }.
local function load_page(folder)
  local page = {}
  for _, name in ipairs(FILES) do
    local file <close> = assert(io.open(folder .. name, "rb"))
    page[name] = { { ["Content-Type"] = TYPES[name:match("%w+$")], ["Cache-Control"] = "no-cache",
                     ["Content-Security-Policy"] = POLICY, ["Referrer-Policy"] = "no-referrer",
                     ["X-Content-Type-Options"] = "nosniff" }, file:read("a") }
  end
  return page
end

-- ---- routes ----

local App = {}
App.__index = App

function App:index()
  return self:file(nil, "index.html")
end

function App:file(_, name)
  local file = self.page[name]
  if not file then
    return answer(404, { error = "not found" })
  end
  return 200, file[1], file[2]
end

function App:list()
  local list, problem = self.chat:list()
  if not list then
    return fail(problem)
  end
  return answer(200, list)
end

function App:join(env, room_name, name)
  local joined, problem = self.chat:join(room_name, name, (key_of(env)))
  if not joined then
    return fail(problem)
  end
  return answer(200, joined)
end

function App:put(env, room_name, name)
  local user, problem = self.chat:user(name, (key_of(env)))
  if not user then
    return fail(problem)
  end
  local form = fields(env.input:read(MAX_FORM) or "")
  local ok
  ok, problem = self.chat:post(room_name, user, form.message)
  if not ok then
    return fail(problem)
  end
  return 204
end

function App:poll(env, name)
  local user, problem = self.chat:follow(name, key_of(env))
  if not user then
    return fail(problem)
  end
  return answer(200, user:take(self.poll_timeout))
end

-- An event as JSON, made once for all to whom it goes.
local encoded = setmetatable({}, { __mode = "k" })

local function encode(event)
  local text = encoded[event] or json.encode(event)
  encoded[event] = text
  return text
end

-- Sends a user's events until somebody else reads them, or the user has left.
local function push(ws, events)
  for event in events do
    if not ws:send(encode(event)) then
      return
    end
  end
  ws:close()
end

function App:websocket(env, name)
  local user, problem = self.chat:follow(name, key_of(env))
  if not user then
    return fail(problem)
  elseif not env.websocket then
    return 426, { Upgrade = "websocket" }
  end
  local ws = env.websocket:accept(SOCKET)
  if not ws then
    return
  end
  local events, reader = user:read()
  local _ <close> = reader
  local pusher <close> = moonlet.spawn(push, ws, events)
  for text in ws do
    local said = json.decode(text)
    if type(said) ~= "table" then
      said = {}
    end
    local ok
    ok, problem = self.chat:post(said.room, user, said.message)
    if not ok then
      ws:send(json.encode { type = "error", error = problem, message = said.message })
    end
  end
  pusher:kill()
end

function App:leave(env, name)
  local user, problem = self.chat:user(name, (key_of(env)))
  if not user then
    return fail(problem)
  end
  local ok
  ok, problem = self.chat:leave(user)
  if not ok then
    return fail(problem)
  end
  return 204
end

-- The first one whose pattern matches the path; its captures are the arguments.
local ROUTES = {
  { "^/$", "GET", App.index },
  { "^/page/([^/]+)$", "GET", App.file },
  { "^/put/([^/]+)/([^/]+)$", "POST", App.put },
  { "^/poll/([^/]+)$", "POST", App.poll },
  { "^/ws/([^/]+)$", "GET", App.websocket },
  { "^/leave/([^/]+)$", "POST", App.leave },
  { "^/([^/]+)/([^/]+)$", "GET", App.join },
  { "^/([^/]+)$", "GET", App.list },
}

function App:__call(env)
  local method = env.REQUEST_METHOD == "HEAD" and "GET" or env.REQUEST_METHOD
  for _, route in ipairs(ROUTES) do
    local pattern, wanted, handle = table.unpack(route)
    local first, second = env.PATH_INFO:match(pattern)
    if first then
      if method ~= wanted then
        return 405, { Allow = wanted }
      end
      return handle(self, env, first, second)
    end
  end
  return answer(404, { error = "not found" })
end

--- Lets users go who have left without a word; runs until it is killed.
function App:sweep()
  while true do
    moonlet.sleep(EXPIRY / 4)
    self.chat:expire(EXPIRY)
  end
end

--- The application. Options: `rooms`, their names; `folder`, where the page's files are;
--- `poll_timeout`, seconds; `chat`, one to use instead of that of rooms.lua.
local function new(opts)
  return setmetatable({
    chat = opts.chat or rooms.new(opts.rooms),
    page = load_page(opts.folder),
    poll_timeout = opts.poll_timeout or POLL_TIMEOUT,
  }, App)
end

return { new = new }
