-- 26. Actors
-- An actor is a greenlet with an inbox: others put messages in, it takes them out one by one and
-- acts on each. These two answer each other for ever, until main has seen enough and kills them.

local moonlet = require "moonlet"
local Queue = require("moonlet.queue").Queue

local Actor = moonlet.Greenlet:extend()

function Actor:new()
  Actor.super.new(self)
  self.inbox = Queue()
end

-- What to do with a message: each kind of actor says it for itself.
function Actor:receive(message)
  error(("%s does not know what to do with %s"):format(self, message))
end

function Actor:_run()
  for message in self.inbox do
    self:receive(message)
  end
end

local Pinger = Actor:extend()

function Pinger:receive(message)
  print(message)
  self.partner.inbox:put("ping")
  moonlet.sleep(0)
end

local Ponger = Actor:extend()

function Ponger:receive(message)
  print(message)
  self.partner.inbox:put("pong")
  moonlet.sleep(0)
end

local ping, pong = Pinger(), Ponger()
ping.partner, pong.partner = pong, ping
ping:start()
pong:start()

ping.inbox:put("start")
local ended = moonlet.joinall({ ping, pong }, 0.05)
assert(#ended == 0)

moonlet.killall { ping, pong }
assert(ping:successful() and pong:successful())
