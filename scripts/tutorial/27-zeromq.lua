-- 27. ZeroMQ
-- Two greenlets talk over a socket of ZeroMQ's, here within one process. The server asks and the
-- client answers, nine times; each blocks in receive and by that lets the other run.

local moonlet = require "moonlet"
local zmq = require "moonlet.zmq"

local context <close> = zmq.Context()
local server_socket, client_socket = context:socket(zmq.REQ), context:socket(zmq.REP)
assert(client_socket:connect(assert(server_socket:bind("tcp://127.0.0.1:*"))))

local function server()
  for request = 1, 9 do
    server_socket:send("Hello")
    print(("Switched to Server for %d"):format(request))
    server_socket:receive()
  end
end

local function client()
  for request = 1, 9 do
    client_socket:receive()
    print(("Switched to Client for %d"):format(request))
    client_socket:send("World")
  end
end

moonlet.joinall { moonlet.spawn(server), moonlet.spawn(client) }
