-- 20. A class around a pool
-- Services are often built on a pool that bounds how much goes on at once. This one reads from as
-- many sockets as its pool has places, and refuses any more.

local moonlet = require "moonlet"
local Pool = require("moonlet.pool").Pool
local socket = require "moonlet.socket"

local SocketPool = {}
SocketPool.__index = SocketPool

function SocketPool.new(size)
  return setmetatable({ pool = Pool(size) }, SocketPool)
end

function SocketPool.listen(sock)
  for byte in function() return sock:receive(1) end do
    print("Received " .. byte)
  end
end

function SocketPool:add_handler(sock)
  if self.pool:full() then
    error("At maximum pool size", 0)
  end
  self.pool:spawn(self.listen, sock)
end

function SocketPool:shutdown()
  self.pool:kill()
end

function SocketPool:report()
  print(("%d held, %d free"):format(#self.pool, self.pool:free_count()))
end

local near1, far1 = socket.socketpair()
local near2, far2 = socket.socketpair()
local _, far3 = socket.socketpair()

local handlers = SocketPool.new(2)
handlers:add_handler(far1)
handlers:add_handler(far2)
local _, err = pcall(handlers.add_handler, handlers, far3)
print(err)

near1:send("a")
near2:send("b")
moonlet.sleep(0.1)
handlers:report()

handlers:shutdown()
handlers:report()
