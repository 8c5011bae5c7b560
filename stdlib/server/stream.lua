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

-- The context of an option.
function StreamServer:_make_context(name, params)
  if type(params) ~= "table" and type(params) ~= "userdata" then
    self:_bad_argument(3, ("%s: table or context expected, got %s"):format(name, type(params)))
  end
  local context, problem = server_context(params)
  if not context then
    self:_bad_argument(3, name .. ": " .. problem)
  end
  return context
end

function StreamServer:_set_names(sites)
  if not self._context then
    self:_bad_argument(3, "sni: needs the option ssl, for clients that ask for none")
  elseif type(sites) ~= "table" then
    self:_bad_argument(3, "sni: table expected, got " .. type(sites))
  end
  self._sites = {}
  for name, params in pairs(sites) do
    self._sites[name:lower()] = self:_make_context("sni: " .. name, params)
  end
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
--     spawn              nil or "raw": a greenlet for each client; a number: as many at a time,
--                        others wait to be accepted; a Group or Pool
--     ssl                parameters of moonlet.ssl's newcontext, or a context: for TLS
--     sni                contexts, or parameters of them, by the names that clients of TLS may ask
--                        for; others get that of `ssl`
--     handshake_timeout  seconds for the handshake of TLS (10)
--     max_accept         how many are accepted before others get their turn (100)
--     reuse_port         other servers may have the same port: the kernel spreads clients
--     stop_timeout       seconds that stop() waits for handlers (1)
--     workers            how many processes to make, in which the handlers run: see below
--
-- A port without a host is that of all addresses, of IPv6 and IPv4.
--
-- With `workers` start() binds the address and then forks so many processes; no client is handled
-- in this one. A worker that dies is replaced. stop(), close() and so on reach the workers, and
-- SIGTERM to this process does in serve_forever; called by a handler they end its worker only.
-- Workers stop when this process is gone, whatever ended it. They share the listening socket, or
-- have one each with `reuse_port`; max_accept is 1 unless set.
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
  self._context = opts.ssl and self:_make_context("ssl", opts.ssl) or false
  self._sites = false
  if opts.sni then
    self:_set_names(opts.sni)
  end
  self._supervisor = false
  if opts.workers ~= nil then
    local count = self:_number_option(opts, "workers", 1)
    self._supervisor = require "moonlet.server.workers"(self, count)
    self.max_accept = opts.max_accept or 1
  end
end

-- Accepted sockets have TCP_NODELAY from the listening one.
function StreamServer:_listen_once(where)
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

-- The sockets of workers that have one each stay open here: no client is lost with a worker.
function StreamServer:_listen(where)
  local sock, message, errno = self:_listen_once(where)
  if not sock or not self._supervisor or not self._reuse_port or where.path then
    return sock, message, errno
  end
  local _, port = sock:getsockname()
  self._sockets = { sock }
  for number = 2, self._supervisor.count do
    local other
    other, message, errno = self:_listen_once { host = where.host, port = port }
    if not other then
      self:_close_sockets()
      return nil, message, errno
    end
    self._sockets[number] = other
  end
  return sock
end

function StreamServer:_close_sockets(kept)
  for _, sock in ipairs(self._sockets or {}) do
    if sock ~= kept then
      sock:close()
    end
  end
end

-- In a new process: it is a server without workers now, whose socket's file belongs to its parent.
function StreamServer:_become_worker(number)
  self.socket = self._sockets and self._sockets[number] or self.socket
  self:_close_sockets(self.socket)
  self._supervisor, self._where = false, false
  if self._signal then
    self._signal:cancel()
  end
end

function StreamServer:start_accepting()
  if self._supervisor and self.started then
    self._supervisor:start_accepting()
  else
    StreamServer.super.start_accepting(self)
  end
end

function StreamServer:stop_accepting()
  if self._supervisor then
    self._supervisor:stop_accepting()
  end
  StreamServer.super.stop_accepting(self)
end

function StreamServer:close()
  if self._supervisor and not self._closed:is_set() then
    self._supervisor:close()
    self:_close_sockets()
  end
  StreamServer.super.close(self)
end

function StreamServer:_join(timeout)
  if self._supervisor then
    return self._supervisor:join(timeout)
  end
  return StreamServer.super._join(self, timeout)
end

function StreamServer:_is_accepting()
  if self._supervisor then
    return not self._supervisor.paused
  end
  return StreamServer.super._is_accepting(self)
end

function StreamServer:_at_work()
  if self._supervisor then
    return self._supervisor:count_workers(), "workers"
  end
  return StreamServer.super._at_work(self)
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
  if self._sites then
    conn:sni(self._sites)
  end
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

--- Called when a client's handshake has failed. This one raises an error, which is reported.
---@param problem string
function StreamServer:handshake_failed(problem)
  error(("%s: handshake: %s"):format(tostring(self), problem), 0)
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
    self:handshake_failed(problem)
  end
end

-- Gives a client that was accepted a greenlet.
function StreamServer:_welcome(client)
  local ok, err = pcall(self._spawn, self, serve, client) -- a full Pool blocks, to be killed there
  if not ok then
    client:close()
    error(err, 0)
  end
end

function StreamServer:_accept(listener)
  local client, message, errno = listener:accept()
  if not client then
    return self:_accept_failed(message, errno)
  end
  self:_welcome(client)
end

return StreamServer
