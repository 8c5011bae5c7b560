-- Servers for connections.

local BaseServer = require "moonlet.server.base"
local listen = require "moonlet.server.listen"
local moonlet = require "moonlet"
local Secure = require("moonlet.socket.core").Secure

local getcurrent = moonlet.getcurrent

--- A server for TCP or unix sockets, with TLS if asked for. Each client has a greenlet, in which
-- handle(socket, address) is called; when it ends, the socket is closed. An error is reported as
-- that of any greenlet, and the server goes on.
--
-- A subclass may have a method `handle` of its own, and others of those below.
-- Source: gevent.server.StreamServer.
---@class moonlet.server.StreamServer: moonlet.server.BaseServer
---@field handshake_timeout number seconds for the TLS handshake (10)
local StreamServer = BaseServer:extend("StreamServer")

StreamServer.handshake_timeout = 10

local BACKLOG = 1024

--- Called for each client; closes none, since the server does. This one calls the constructor's
-- `handle`.
---@param client moonlet.socket.Stream
---@param address table|false { host, port }, or { path = path } of a unix socket; see peer
function StreamServer:handle(client, address)
  return self._handle(client, address)
end

StreamServer._call_handle = StreamServer.handle

local function server_context(params)
  local ssl = require "moonlet.ssl"
  if type(params) == "userdata" then
    return params
  end
  local full = { mode = "server" }
  for name, value in pairs(params) do
    full[name] = value
  end
  return ssl.newcontext(full)
end

function StreamServer:_set_ssl(params)
  if type(params) ~= "table" and type(params) ~= "userdata" then
    self:_bad_argument(3, "ssl: table or context expected, got " .. type(params))
  end
  local context, problem = server_context(params)
  if not context then
    self:_bad_argument(3, "ssl: " .. problem)
  end
  self._context = context
end

function StreamServer:_check_listener(sock)
  if sock:is(Secure) then
    self:_bad_argument(1, "a listening socket cannot be one of TLS: use the option ssl")
  elseif not sock.class:find("{server}", 1, true) then
    self:_bad_argument(1, ("listening socket expected, got %s"):format(sock.class))
  end
end

--- A server for clients of an address. Options:
--
--     backlog            how many clients may wait to be accepted (1024)
--     spawn              nil: a greenlet for each client; a number: as many at a time, others wait
--                        to be accepted; a Group or Pool; "raw": the greenlet that accepts runs
--                        the handlers, one after the other
--     ssl                parameters of moonlet.ssl's newcontext, or a context: for TLS
--     handshake_timeout  seconds for the handshake of TLS (10)
--     max_accept         how many are accepted before others get their turn (100)
--     reuse_port         other servers may have the same port: the kernel spreads clients
--     stop_timeout       seconds that stop() waits for handlers (1)
--
-- A port without a host is that of all addresses, of IPv6 and IPv4.
---@param where string|integer|table|moonlet.socket.Stream {host, port}, port, ":8000",
--   "unix:/path", or a listening socket
---@param handle? fun(client: moonlet.socket.Stream, address: table)
---@param opts? table
---@raise an error for what cannot be an address, no handler, or a wrong option
function StreamServer:new(where, handle, opts)
  StreamServer.super.new(self, where, handle, opts)
  opts = opts or {}
  self._backlog = self:_number_option(opts, "backlog", 1) or BACKLOG
  self._reuse_port = opts.reuse_port
  self.handshake_timeout = self:_number_option(opts, "handshake_timeout")
  self._context = false
  if opts.ssl then
    self:_set_ssl(opts.ssl)
  end
end

-- Accepted sockets have TCP_NODELAY from the listening one.
function StreamServer:_listen(where)
  local sock, message, errno = listen.bind("stream", where, { reuse_port = self._reuse_port })
  if not sock then
    return nil, message, errno
  end
  if not where.path then
    sock:setoption("tcp-nodelay", true)
  end
  local ok
  ok, message, errno = sock:listen(self._backlog)
  if not ok then
    sock:close()
    return nil, ("%s: %s"):format(message, listen.describe(where)), errno
  end
  return sock
end

--- Puts a client under TLS, if the server is one for it; called in the client's greenlet.
---@param client moonlet.socket.Stream
---@return moonlet.socket.Stream|nil # what the handler gets
---@return string # or why there is nothing to handle: "closed", "timeout" ...
function StreamServer:wrap(client)
  if not self._context then
    return client
  end
  local conn, message = require("moonlet.ssl").wrap(client, self._context)
  if not conn then
    return nil, message
  end
  self._handlers[getcurrent()] = conn
  conn:settimeout(self.handshake_timeout, "t")
  local ok
  ok, message = conn:dohandshake()
  conn:settimeout(nil, "t")
  return ok and conn, message
end

--- The address of a client, for `handle`. A subclass that needs none saves the system call by one
-- that returns false.
---@param client moonlet.socket.Stream
---@return table|false|nil # nil: the client is gone, and not handled
function StreamServer:peer(client)
  local host, port = client:getpeername()
  if math.type(port) == "integer" then
    return { host, port }
  elseif host then
    return { path = host }
  end
end

-- The body of a client's greenlet.
local function serve(self, client)
  self._handlers[getcurrent()] = client
  local _ <close> = self._handler_scope
  local conn, problem = self:wrap(client)
  if conn then
    self._handlers[getcurrent()] = conn
    local address = self:peer(conn)
    if address ~= nil then
      self:handle(conn, address)
    end
  elseif problem ~= "closed" then
    error(("%s: handshake: %s"):format(tostring(self), problem), 0)
  end
end

function StreamServer:_accept(listener)
  local client, message, errno = listener:accept()
  if not client then
    return self:_accept_failed(message, errno)
  elseif self._raw then
    return serve(self, client)
  end
  local ok, err = pcall(self._spawn, self, serve, client) -- a full Pool blocks, to be killed there
  if not ok then
    client:close()
    error(err, 0)
  end
end

return StreamServer
