local moonlet = require "moonlet"
local socket = require "moonlet.socket"

local function echo(client)
  while true do
    local data = client:recv(16384)
    if not data then
      return client:close()
    end
    client:send(data)
  end
end

local server = assert(socket.bind("127.0.0.1", arg[1], 1024))
while true do
  moonlet.spawn(echo, assert(server:accept()))
end
