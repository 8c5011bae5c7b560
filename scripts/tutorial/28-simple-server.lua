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

local function telnet(number)
  local connection = assert(socket.create_connection(server.address))
  print(("client %d reads:\n%s"):format(number, connection:receive("*a")))
  connection:close()
end

local clients = {}
for number = 1, 3 do
  clients[number] = moonlet.spawn(telnet, number)
end

moonlet.spawn(function()
  moonlet.joinall(clients)
  server:stop()
end)
server:serve_forever()
print("the server has been stopped")
