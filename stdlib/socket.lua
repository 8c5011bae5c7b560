--- Sockets with LuaSocket's API, whose calls block only their greenlet.
--
-- LuaSocket's own modules written in Lua (socket.http, ftp, smtp ...) run on it once
-- moonlet.monkey has put it in place of `socket`.
-- Differs: socket objects | recv, sendall, makefile ... raise | LuaSocket's receive and send return
-- Differs: settimeout | of one call | "b": of each single wait, as LuaSocket's manual says; "t": of
--   the whole call

local address = require "moonlet.address"
local core = require "moonlet.socket.core"
local dns = require "moonlet.socket.dns"
local moonlet = require "moonlet"
local select_module = require "moonlet.select"

local socket = {
  _VERSION = "LuaSocket 3.0.0 (" .. moonlet._VERSION .. ")",
  BLOCKSIZE = 2048,
  _DATAGRAMSIZE = 8192,
  _SETSIZE = math.maxinteger, -- select has no limit of its own
  _SOCKETINVALID = -1,
  dns = dns,
  tcp = core.tcp,
  tcp4 = core.tcp4,
  tcp6 = core.tcp6,
  udp = core.udp,
  udp4 = core.udp4,
  udp6 = core.udp6,
  socketpair = core.socketpair,
  wait_read = core.wait_read,
  wait_write = core.wait_write,
  gettime = core.gettime,
  Socket = core.Socket,
}

--- Sockets of the unix domain: unix() and unix.stream() for streams, unix.dgram() for datagrams.
-- Source: LuaSocket's socket.unix.
socket.unix = setmetatable({
  stream = core.unix_stream,
  tcp = core.unix_stream,
  dgram = core.unix_dgram,
  udp = core.unix_dgram,
}, {
  __call = function()
    return core.unix_stream()
  end,
})

-- ---- making connections ----

local makers = { inet = core.tcp4, inet6 = core.tcp6, unspec = core.tcp }

local function check_string(value, number, name)
  if type(value) ~= "string" then
    error(("bad argument #%d to '%s' (string expected, got %s)"):format(
            number, name, value == nil and "no value" or type(value)), 3)
  end
end

-- A time limit in seconds; a Timeout bounds everything by itself.
local function check_timeout(timeout, number, name)
  if type(timeout) == "userdata" and timeout.is and timeout:is(moonlet.Timeout) then
    return nil
  end
  if timeout ~= nil and type(timeout) ~= "number" then
    error(("bad argument #%d to '%s' (number expected, got %s)"):format(
            number, name, type(timeout)), 3)
  end
  return timeout and math.max(timeout, 0)
end

-- Closes a socket at the end of the block unless it was released.
local Guard = {}
Guard.__index = Guard

local function guarding(sock)
  return setmetatable({ sock = sock }, Guard)
end

function Guard:release()
  local sock = self.sock
  self.sock = nil
  return sock
end

function Guard:__close()
  if self.sock then
    self.sock:close()
  end
end

-- The local address may be of one family only, which then is the peer's too.
local function bind_local(host, port, family)
  local infos, problem = dns.getaddrinfo(host)
  if not infos then
    return nil, problem
  end
  for _, info in ipairs(infos) do
    if family == "unspec" or info.family == family then
      local self = makers[info.family]()
      local ok
      ok, problem = self:bind(info.addr, port or 0)
      if ok then
        return self
      end
      self:close()
    end
  end
  return nil, problem or "no address of that family"
end

--- A TCP connection to host and port.
---@param host string
---@param port integer|string
---@param local_host? string  its own address
---@param local_port? integer|string
---@param family? "inet"|"inet6"|"unspec"
---@return moonlet.socket.TCP|nil
---@return string # "connection refused", or another reason
---@return integer # errno, or the resolver's number
-- Source: LuaSocket.
function socket.connect(host, port, local_host, local_port, family)
  check_string(host, 1, "connect")
  family = family or "unspec"
  local maker = makers[family] or error("bad argument #5 to 'connect' (unknown family)", 2)
  local self, problem
  if local_host then
    self, problem = bind_local(local_host, local_port, family)
  else
    self, problem = maker()
  end
  if not self then
    return nil, problem
  end
  local guard <close> = guarding(self)
  local ok, message, number = self:connect(host, port)
  if not ok then
    return nil, message, number
  end
  return guard:release()
end

--- The same over IPv4 only.
---@param host string
---@param port integer|string
---@param local_host? string  its own address
---@param local_port? integer|string
---@return moonlet.socket.TCP|nil
---@return string # why there is none
---@return integer # errno, or the resolver's number
-- Source: LuaSocket.
function socket.connect4(host, port, local_host, local_port)
  return socket.connect(host, port, local_host, local_port, "inet")
end

--- The same over IPv6 only.
---@param host string
---@param port integer|string
---@param local_host? string  its own address
---@param local_port? integer|string
---@return moonlet.socket.TCP|nil
---@return string # why there is none
---@return integer # errno, or the resolver's number
-- Source: LuaSocket.
function socket.connect6(host, port, local_host, local_port)
  return socket.connect(host, port, local_host, local_port, "inet6")
end

-- A server on one address.
local function serve(family, host, port, backlog)
  local self, message, number = makers[family]()
  if not self then
    return nil, message, number
  end
  local guard <close> = guarding(self)
  local ok
  ok, message, number = self:setoption("reuseaddr", true)
  if ok then
    ok, message, number = self:bind(host, port)
  end
  if ok then
    ok, message, number = self:listen(backlog)
  end
  if not ok then
    return nil, message, number
  end
  return guard:release()
end

--- A TCP server that listens on host and port.
---@param host string  "*" for all addresses of IPv4
---@param port integer|string  0: a free one
---@param backlog? integer  how many may wait to be accepted (32)
---@return moonlet.socket.TCP|nil
---@return string # why there is none
---@return integer # errno, or the resolver's number
-- Source: LuaSocket.
function socket.bind(host, port, backlog)
  check_string(host, 1, "bind")
  local infos, message, number = dns.getaddrinfo(host == "*" and "0.0.0.0" or host)
  if not infos then
    return nil, message, number
  end
  for _, info in ipairs(infos) do
    local self
    self, message, number = serve(info.family, info.addr, port, backlog)
    if self then
      return self
    end
  end
  return nil, message, number
end

local function connect_unix(path, timeout)
  local self = core.unix_stream()
  local guard <close> = guarding(self)
  self:settimeout(timeout, "t")
  local ok, message, number = self:connect(path)
  if not ok then
    return nil, message, number
  end
  return guard:release()
end

local function connect_tcp(host, port, timeout)
  local self = core.tcp()
  local guard <close> = guarding(self)
  self:settimeout(timeout, "t")
  local ok, message, number = self:connect(host, port)
  if not ok then
    return nil, message, number
  end
  return guard:release()
end

-- What is left of a time limit that began at `start`.
local function rest(timeout, start)
  return timeout and math.max(timeout - (moonlet.now() - start), 0)
end

-- The certificate has to be for the host that was asked for, unless the parameters name another.
local function secure(self, params, host, timeout)
  local ssl = require "moonlet.ssl"
  local guard <close> = guarding(self)
  if type(params) ~= "userdata" then
    params = setmetatable({ mode = "client" }, { __index = params ~= true and params or nil })
  end
  local conn, message = ssl.wrap(self, params)
  if not conn then
    return nil, message
  end
  guard:release()
  local conn_guard <close> = guarding(conn)
  if type(params) == "userdata" or not params.servername then
    conn:sni(host)
  end
  conn:settimeout(timeout, "t")
  local ok
  ok, message = conn:dohandshake()
  if not ok then
    return nil, message
  end
  return conn_guard:release()
end

--- A connection to a server: the name is looked up, and all its addresses are tried in turn.
-- The timeout is one for all of that, and for the TLS handshake; it stays on the socket, as
-- settimeout(timeout).
---@param where string|integer|table  {host, port}, "host:port", "unix:/path", a port here ...;
--   a table's field `ssl` (true, or a context or parameters of moonlet.ssl) asks for TLS
---@param timeout? number|moonlet.Timeout  seconds
---@return moonlet.socket.Stream|nil
---@return string # "timeout", "connection refused", or another reason
---@return integer # errno, or the resolver's number
-- Source: gevent.socket.create_connection.
function socket.create_connection(where, timeout)
  local parsed, problem = address.parse(where)
  if not parsed then
    error("bad argument #1 to 'create_connection' (" .. problem .. ")", 2)
  end
  local seconds = check_timeout(timeout, 2, "create_connection")
  local start = moonlet.now()
  local self, message, number
  if parsed.path then
    self, message, number = connect_unix(parsed.path, seconds)
  else
    local host = parsed.host == "" and "localhost" or parsed.host
    self, message, number = connect_tcp(host, parsed.port, seconds)
    if self and type(where) == "table" and where.ssl then
      self, message = secure(self, where.ssl, host, rest(seconds, start))
    end
  end
  if not self then
    return nil, message, number
  end
  self:settimeout(nil, "t")
  self:settimeout(seconds)
  return self
end

-- ---- waiting ----

--- Blocks for so many seconds.
---@param seconds number
-- Source: LuaSocket.
function socket.sleep(seconds)
  moonlet.sleep(seconds)
end

-- Those that have a descriptor: others count as never ready.
local function open_ones(list)
  local open = {}
  for _, object in ipairs(list or {}) do
    if object:getfd() ~= socket._SOCKETINVALID then
      open[#open + 1] = object
    end
  end
  return open
end

-- LuaSocket's lists say of each object, too, at which place it stands.
local function with_places(list)
  for place = 1, #list do
    list[list[place]] = place
  end
  return list
end

--- Waits until one of some sockets can be read or written.
---@param to_read table[]|nil  objects with getfd, and dirty if they have a buffer
---@param to_write table[]|nil
---@param timeout? number  seconds; below 0: no limit
---@return table # those that can be read; each is also a key, whose value is its place
---@return table # those that can be written
---@return string|nil # "timeout" if there are none
-- Source: LuaSocket.
function socket.select(to_read, to_write, timeout)
  if type(timeout) == "number" and timeout < 0 then
    timeout = nil
  end
  local readable, writable =
    select_module.select(open_ones(to_read), open_ones(to_write), nil, timeout)
  local problem = #readable == 0 and #writable == 0 and "timeout" or nil
  return with_places(readable), with_places(writable), problem
end

-- ---- errors ----

-- What try raises, so that protect knows it from all other errors.
local Failure = {
  __tostring = function(self)
    return tostring(self[1])
  end,
}

--- A function like try that calls finalizer() before it raises.
---@param finalizer? function
---@return function
-- Source: LuaSocket.
function socket.newtry(finalizer)
  return function(...)
    if ... then
      return ...
    end
    if finalizer then
      pcall(finalizer)
    end
    error(setmetatable({ (select(2, ...)) }, Failure), 0)
  end
end

--- Returns its arguments, or raises the second one if the first is nil or false, for protect.
---@param ... any
---@return any ...
-- Source: LuaSocket.
socket.try = socket.newtry()

local function unprotect(ok, ...)
  if ok then
    return ...
  end
  local failure = ...
  if getmetatable(failure) == Failure then
    return nil, failure[1]
  end
  error(failure, 0)
end

--- A function that does what f does but returns nil and the reason where a try raises.
-- Other errors go on, kills and Timeouts among them.
---@param f function
---@return function
-- Source: LuaSocket.
function socket.protect(f)
  return function(...)
    return unprotect(pcall(f, ...))
  end
end

--- The arguments after the first `count`.
---@param count integer
---@param ... any
---@return any ...
-- Source: LuaSocket.
function socket.skip(count, ...)
  return select(count + 1, ...)
end

-- ---- sources and sinks ----

--- Makes of a table of functions one that takes the name first; without a name, "default".
---@param choices table<string, function>
---@return function
-- Source: LuaSocket.
function socket.choose(choices)
  return function(name, first, second)
    if type(name) ~= "string" then
      name, first, second = "default", name, first
    end
    local chosen = choices[name]
    if not chosen then
      error("unknown key (" .. name .. ")", 3)
    end
    return chosen(first, second)
  end
end

-- What sinks and sources are: callable, and good for select.
local function of_socket(sock, call)
  return setmetatable({
    getfd = function()
      return sock:getfd()
    end,
    dirty = function()
      return sock:dirty()
    end,
  }, { __call = call })
end

socket.sinkt = {}

socket.sinkt["close-when-done"] = function(sock)
  return of_socket(sock, function(_, chunk)
    if chunk then
      return sock:send(chunk)
    end
    sock:close()
    return 1
  end)
end

socket.sinkt["keep-open"] = function(sock)
  return of_socket(sock, function(_, chunk)
    return not chunk and 1 or sock:send(chunk)
  end)
end

socket.sinkt["default"] = socket.sinkt["keep-open"]

--- A sink that sends: socket.sink("keep-open" or "close-when-done", sock).
---@param mode string
---@param sock moonlet.socket.Stream
---@return table # to be called with chunks, and with nil at the end
-- Source: LuaSocket; LTN 12.
socket.sink = socket.choose(socket.sinkt)

socket.sourcet = {}

socket.sourcet["by-length"] = function(sock, length)
  return of_socket(sock, function()
    if length <= 0 then
      return nil
    end
    local chunk, message = sock:receive(math.min(socket.BLOCKSIZE, length))
    if not chunk then
      return nil, message
    end
    length = length - #chunk
    return chunk
  end)
end

socket.sourcet["until-closed"] = function(sock)
  local done
  return of_socket(sock, function()
    if done then
      return nil
    end
    local chunk, message, partial = sock:receive(socket.BLOCKSIZE)
    if chunk then
      return chunk
    end
    if message ~= "closed" then
      return nil, message
    end
    sock:close()
    done = true
    return partial
  end)
end

socket.sourcet["default"] = socket.sourcet["until-closed"]

--- A source that receives: socket.source("until-closed" or "by-length", sock, length).
---@param mode string
---@param sock moonlet.socket.Stream
---@param length? integer  bytes
---@return table # to be called for chunks; nil is the end
-- Source: LuaSocket; LTN 12.
socket.source = socket.choose(socket.sourcet)

return socket
