-- The chat of scripts/examples on several servers: the servers, and clients who go from one to
-- another.

local http = require "moonlet.http"
local json = require "dkjson"
local moonlet = require "moonlet"
local subprocess = require "moonlet.subprocess"
local support = require "support"
local websocket = require "moonlet.websocket"

local chat = {}

local START = 20 -- seconds for a server to start, and to end
local PATIENCE = 10 -- seconds for an answer

-- ---- servers ----

local Server = {}
Server.__index = Server

--- Starts a server with the Redis at that place. Options: `host` (127.0.0.1), `workers`, `expiry`;
--- `command`, a list of words, that runs it.
function chat.serve(redis, opts)
  opts = opts or {}
  local args = table.move(opts.command or {}, 1, #(opts.command or {}), 1, {})
  for _, word in ipairs { support.interpreter, "scripts/examples/chat/server.lua", "0",
                          "--host", opts.host or "127.0.0.1", "--redis", redis,
                          "--workers", opts.workers or 2, "--expiry", opts.expiry or 60 } do
    table.insert(args, tostring(word))
  end
  local process = assert(subprocess.Popen {
    args = args, stdin = subprocess.DEVNULL, stdout = subprocess.PIPE, stderr = subprocess.DEVNULL,
  })
  local line = moonlet.with_timeout(START, process.stdout.read, process.stdout, "l")
  local server = setmetatable({ process = process, client = http.Client { proxy = false } }, Server)
  server.place = (line or ""):match("^Listening on http://([%d.]+:%d+)/$")
  if not server.place then
    server:stop()
    error("the chat does not listen: " .. tostring(line))
  end
  return server
end

--- The ids of its workers.
function Server:workers()
  local path = ("/proc/%d/task/%d/children"):format(self.process.pid, self.process.pid)
  local file <close> = assert(io.open(path))
  local pids = {}
  for pid in file:read("a"):gmatch("%d+") do
    table.insert(pids, tonumber(pid))
  end
  return pids
end

--- An answer of one of its workers: the status, and what it says; nil and a reason without one.
function Server:ask(method, path, form)
  local response, problem = self.client:request {
    url = "http://" .. self.place .. path, method = method, timeout = PATIENCE,
    body = form or method == "POST" and "" or nil,
    headers = { ["Content-Type"] = form and "application/x-www-form-urlencoded" or nil,
                Connection = "close" }, -- so that any worker may have the next one
  }
  local text
  if response then
    text, problem = response:body()
  end
  if not text then
    return nil, problem
  end
  return response.status, text ~= "" and json.decode(text) or nil
end

--- Says something: the status of the answer.
function Server:post(room, user, text)
  return (self:ask("POST", ("/put/%s/%s"):format(room, user), "message=" .. text))
end

--- The same from somebody new, once it works.
function Server:tell(room, user, text)
  support.eventually(function()
    return self:ask("GET", ("/%s/%s"):format(room, user)) == 200 and
           self:post(room, user, text) == 204
  end)
end

function Server:stop()
  self.client:close()
  self.process:terminate()
  local code = self.process:wait(START)
  if not code then
    self.process:kill()
    self.process:wait()
  end
  self.process:close()
  return code
end

Server.__close = Server.stop

-- ---- clients who listen ----

local Listener = {}
Listener.__index = Listener

-- Whether that server took us in, and gave us something to listen to.
function Listener:_connect(server)
  if self.ws then
    self.ws:close()
  end
  self.ws = nil
  local user = self.name .. "?key=" .. self.name
  if not self.after then
    local status, answer = server:ask("GET", "/" .. self.room .. "/" .. user)
    if status ~= 200 then
      return false
    end
    self.after = answer.last
  end
  local ws, _, status = websocket.connect(("ws://%s/ws/%s&after=%s"):format(
    server.place, user, self.after), { timeout = PATIENCE })
  if status == 404 then
    self.after = nil -- we are not known any more
  end
  self.ws = ws
  return ws ~= nil
end

function Listener:_hear(text)
  local event = json.decode(text)
  if event.type == "message" then
    self.after = event.id
    table.insert(self.messages, event.text)
  else
    table.insert(self.events, event)
  end
end

function Listener:_run()
  local turn = 1
  while true do
    if self:_connect(self.servers[turn]) then
      self.connected:set()
      for text in self.ws do
        self:_hear(text)
      end
      self.losses = self.losses + 1
    end
    moonlet.sleep(0.05)
    turn = turn % #self.servers + 1 -- somewhere else
  end
end

function Listener:stop()
  self.greenlet:kill()
  if self.ws then
    self.ws:close()
  end
end

Listener.__close = Listener.stop

--- Somebody who joins a room and listens, at the first of some servers, and after each loss of the
--- connection at the next one. `messages` are the texts that came, `events` the rest.
function chat.listen(name, room, servers)
  local self = setmetatable({
    name = name, room = room, servers = servers, messages = {}, events = {}, losses = 0,
    connected = require("moonlet.event").Event(),
  }, Listener)
  self.greenlet = moonlet.spawn(self._run, self)
  if not self.connected:wait(START) then
    self:stop()
    error(name .. " cannot get in")
  end
  return self
end

--- Waits until each has heard all these texts.
function chat.await(listeners, texts)
  support.eventually(function()
    for _, listener in ipairs(listeners) do
      local heard = {}
      for _, text in ipairs(listener.messages) do
        heard[text] = true
      end
      for _, text in ipairs(texts) do
        if not heard[text] then
          return false
        end
      end
    end
    return true
  end)
end

-- ---- clients who write ----

local Writer = {}
Writer.__index = Writer

local function write(self)
  for i = 1, math.huge do
    local text = self.name .. i
    local status = self.servers[i % #self.servers + 1]:post(self.room, self.name, text)
    if status == 204 then
      table.insert(self.acknowledged, text)
    end
    moonlet.sleep(self.pause)
  end
end

--- Somebody who writes, to one server after the other, until stopped; `acknowledged` are the
--- texts that were taken.
function chat.write(name, room, servers, pause)
  assert(servers[1]:ask("GET", ("/%s/%s"):format(room, name)) == 200)
  local self = setmetatable({ name = name, room = room, servers = servers, acknowledged = {},
                              pause = pause or 0.01 }, Writer)
  self.greenlet = moonlet.spawn(write, self)
  return self
end

function Writer:stop()
  self.greenlet:kill()
end

Writer.__close = Writer.stop

--- Waits until so many more of a writer's texts were taken.
function chat.await_writer(writer, count)
  local goal = #writer.acknowledged + count
  support.eventually(function()
    return #writer.acknowledged >= goal
  end)
end

return chat
