-- 30. Long polling
-- A producer puts messages into a queue; the response passes each on when it comes, and never ends
-- by itself. When the client is gone the handler learns it at its next send.

local moonlet = require "moonlet"
local queue = require "moonlet.queue"
local socket = require "moonlet.socket"
local wsapi = require "moonlet.wsapi"

local data_source = queue.Queue()
local ended = false

local function producer()
  while true do
    data_source:put("Hello World")
    moonlet.sleep(0.1)
  end
end

local function ajax_endpoint()
  local _ <close> = setmetatable({}, { __close = function() ended = true end })
  while true do
    local datum = data_source:get(5) -- nothing for so long is no reason to end
    if datum then
      coroutine.yield(('"%s"\n'):format(datum))
    end
  end
end

-- The iterator, which is closed with the response.
local Body = {
  __call = function(self)
    return select(2, assert(coroutine.resume(self.thread)))
  end,
  __close = function(self)
    coroutine.close(self.thread)
  end,
}

local function app()
  local body = setmetatable({ thread = coroutine.create(ajax_endpoint) }, Body)
  return 200, { ["Content-Type"] = "application/json" }, body
end

moonlet.spawn(producer)
local server <close> = wsapi.WSAPIServer({ "127.0.0.1", 0 }, app, { log = false })
assert(server:start())

local client = assert(socket.create_connection(server.address))
assert(client:send("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"))
repeat
  local line = assert(client:receive())
  print((line:gsub("^Date: .*", "Date: ...")))
until line == ""

for _ = 1, 4 do
  print(client:receive(), client:receive(), client:receive())
end
client:close()

while not ended do
  moonlet.sleep(0.01)
end
print("the handler has ended")
