-- Servers for datagrams.

local BaseServer = require "moonlet.server.base"
local listen = require "moonlet.server.listen"
local lock = require "moonlet.lock"
local moonlet = require "moonlet"

local getcurrent = moonlet.getcurrent

-- The most bytes of a datagram that are received.
local SIZE = 8192

--- A server for UDP or unix datagrams: for each of them handle(data, address) is called in a
-- greenlet. A subclass may have a method `handle` of its own.
-- Source: gevent.server.DatagramServer.
---@class moonlet.server.DatagramServer: moonlet.server.BaseServer
local DatagramServer = BaseServer:extend("DatagramServer")

--- Called for each datagram. This one calls the constructor's `handle`.
---@param data string at most 8192 bytes
---@param address table { host, port } of the sender, or { path = path }, for sendto
function DatagramServer:handle(data, address)
  return self._handle(data, address)
end

DatagramServer._call_handle = DatagramServer.handle

function DatagramServer:_check_listener(sock)
  if not sock.receivefrom then
    self:_bad_argument(1, ("datagram socket expected, got %s"):format(sock.class))
  end
end

--- A server for datagrams to an address. Options: `spawn`, `max_accept`, `reuse_port` and
-- `stop_timeout`, as those of StreamServer.
---@param where string|integer|table|moonlet.socket.Socket {host, port}, port, ":8000",
--   "unix:/path", or a socket that is bound
---@param handle? fun(data: string, address: table)
---@param opts? table
---@raise an error for what cannot be an address, no handler, or a wrong option
function DatagramServer:new(where, handle, opts)
  DatagramServer.super.new(self, where, handle, opts)
  self._reuse_port = opts and opts.reuse_port
  self._sending = lock.Lock()
end

function DatagramServer:_listen(where)
  return listen.bind("datagram", where, { reuse_port = self._reuse_port })
end

-- The body of a datagram's greenlet.
local function serve(self, data, address)
  self._handlers[getcurrent()] = true
  local _ <close> = self._handler_scope
  self:handle(data, address)
end

-- An ICMP message about something sent before says nothing of the next datagram.
local PASSING = { ["connection refused"] = true }

function DatagramServer:_accept(sock)
  local data, host, port = sock:receivefrom(SIZE)
  if not data then
    return PASSING[host] or self:_accept_failed(host, port)
  end
  local address = port and { host, port } or { path = host }
  self:_spawn(serve, data, address)
end

--- Sends a datagram from the server's socket. Greenlets that send at the same time wait for each
-- other.
---@param data string
---@param address table|string as `handle` gets it; or a host, with the port behind it, or a path
---@param port? integer
---@return integer|nil # 1
---@return string # "closed" or another reason
---@return integer # errno
function DatagramServer:sendto(data, address, port)
  if not self.socket then
    return nil, "closed"
  end
  local _ <close> = self._sending:hold()
  if type(address) ~= "table" then
    return self.socket:sendto(data, address, port)
  elseif address.path then
    return self.socket:sendto(data, address.path)
  end
  return self.socket:sendto(data, address[1], address[2])
end

return DatagramServer
