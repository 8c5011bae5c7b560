-- What specs of servers share: servers that are started, clients, and handlers.

local queue = require "moonlet.queue"
local server = require "moonlet.server"
local socket = require "moonlet.socket"
local support = require "support"

local servers = {}

--- A free port of the loopback interface.
servers.HERE = { "127.0.0.1", 0 }

--- A new server of a class, started.
function servers.started(class, ...)
  local it = class(...)
  assert(it:start())
  return it
end

--- A StreamServer at HERE, started.
function servers.serve(handle, opts)
  return servers.started(server.StreamServer, servers.HERE, handle, opts)
end

--- A client of a server.
function servers.connect(to)
  local client = assert(socket.create_connection(to.address, 10))
  return client
end

--- What the server sends until it closes.
function servers.read_all(client)
  local data, message, partial = client:receive("*a")
  client:close()
  return data or partial, message
end

--- Whether nobody listens there.
function servers.is_refused(to)
  local client, message = socket.create_connection(to.address, 10)
  if client then
    client:close()
  end
  return message == "connection refused"
end

--- A handler that sends back each line, and a client's call of it.
function servers.echo(client)
  for line in function() return client:receive() end do
    client:send(line .. "\n")
  end
end

function servers.ask(client, line)
  assert(client:send(line .. "\n"))
  return client:receive()
end

--- A handler that counts where it is, and waits until `open` lets it go.
function servers.gate()
  local self = { entered = 0, ended = 0, open = queue.Channel() }
  function self.handle(client)
    self.entered = self.entered + 1
    local _ <close> = setmetatable({}, { __close = function()
      self.ended = self.ended + 1
    end })
    self.open:get()
    client:send("bye")
  end
  function self.wait(n)
    support.eventually(function()
      return self.entered >= n
    end)
  end
  return self
end

return servers
