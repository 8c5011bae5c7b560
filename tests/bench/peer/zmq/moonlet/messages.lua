local moonlet = require "moonlet"
local zmq = require "moonlet.zmq"
local bench = require "bench"

local asks, count = arg[1] == "reqrep", tonumber(arg[2])
local MESSAGE = "hello, world"

local context <close> = zmq.Context()
local listener = context:socket(asks and zmq.REP or zmq.PULL)
local socket = context:socket(asks and zmq.REQ or zmq.PUSH)
assert(socket:connect(assert(listener:bind("tcp://127.0.0.1:*"))))

local function reply()
  for _ = 1, count do
    listener:receive()
    listener:send(MESSAGE)
  end
end

local function pull()
  for _ = 1, count do
    listener:receive()
  end
end

local begun = moonlet.now()
local other = moonlet.spawn(asks and reply or pull)
for _ = 1, count do
  socket:send(MESSAGE)
  if asks then
    socket:receive()
  end
end
other:join()
bench.result("message", (moonlet.now() - begun) / count * 1e6, "us")
