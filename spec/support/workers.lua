-- What the specs of both kinds of pools with workers share. Functions that run in workers refer to
-- no others.

local support = require "support"

local workers = {}

local Gate = {}
Gate.__index = Gate

-- Two files: `closed` holds up workers.pass while it is there, which makes `begun`.
function workers.gate()
  local gate = setmetatable({ closed = os.tmpname() }, Gate)
  gate.begun = gate.closed .. ".begun"
  return gate
end

function Gate:open()
  os.remove(self.closed)
end

-- Blocks until a worker stands before it.
function Gate:await()
  support.eventually(function()
    local file = io.open(self.begun)
    return file and file:close()
  end)
end

function Gate:has_begun()
  local file = io.open(self.begun)
  return file ~= nil and file:close()
end

function Gate:__close()
  os.remove(self.closed)
  os.remove(self.begun)
end

-- Waits in its worker until the gate is open.
function workers.pass(closed, begun, ...)
  assert(io.open(begun, "w")):close()
  while true do
    local file = io.open(closed)
    if not file then
      return ...
    end
    file:close()
    require("moonlet").sleep(0.002)
  end
end

-- Waits in its worker until the file is gone.
function workers.hold(path)
  local file = io.open(path)
  while file do
    file:close()
    require("moonlet").sleep(0.002)
    file = io.open(path)
  end
end

-- Has a worker of the pool stand before the gate.
function workers.block(pool, gate, ...)
  return pool:spawn(workers.pass, gate.closed, gate.begun, ...)
end

function workers.numbers(n)
  local list = {}
  for i = 1, n do
    list[i] = i
  end
  return list
end

function workers.double(n)
  return 2 * n
end

function workers.fail(err)
  error(err, 0)
end

local function fibonacci(n)
  return n < 2 and n or fibonacci(n - 1) + fibonacci(n - 2)
end

workers.fibonacci = fibonacci

-- Fails if n is odd; the larger n, the sooner it ends.
function workers.odd(n)
  require("moonlet").sleep(0.01 * (6 - n))
  if n % 2 == 1 then
    error("odd: " .. n, 0)
  end
  return n
end

return workers
