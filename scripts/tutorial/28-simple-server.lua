-- 28. A simple server
-- A StreamServer calls its function for every client, in a greenlet of its own: the code reads as
-- if there were one client only. The socket is closed when the function returns.

local moonlet = require "moonlet"
local socket = require "moonlet.socket"
local StreamServer = require("moonlet.server").StreamServer

local function greet(client)
  client:send("Hello from a telnet!\n")
  for i = 0, 4 do
    client:send(i .. "\n")
    moonlet.sleep(0.01) -- the other clients get their lines meanwhile
  end
end

-- Port 0: a free one, that server.address tells once it is started.
local server = StreamServer({ "127.0.0.1", 0 }, greet)
assert(server:start())

local function telnet()
  local connection <close> = assert(socket.create_connection(server.address))
  return connection:receive("*a")
end

local function visit()
  local clients = {}
  for i = 1, 3 do
    clients[i] = moonlet.spawn(telnet)
  end
  moonlet.joinall(clients)
  for i, client in ipairs(clients) do
    print(("Client %d has read:"):format(i))
    io.write(client.value)
  end
  server:stop()
end

moonlet.spawn(visit)
server:serve_forever()
print("The server has been stopped.")
