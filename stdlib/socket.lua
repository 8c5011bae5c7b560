--- Sockets with LuaSocket's API, whose calls block only their greenlet.
--
-- LuaSocket's own modules written in Lua (socket.http, ftp, smtp ...) run on it once
-- moonlet.monkey has put it in place of `socket`. One greenlet at a time may read from a socket,
-- and one write to it; whoever waits on one that is closed gets nil, "closed".
--
-- What goes wrong is returned: nil, a message in LuaSocket's words, and the errno if there is one.
---@field BLOCKSIZE integer  bytes that sources ask for at a time
---@field dns table  the module moonlet.socket.dns
---@field sinkt table<string, function>  the kinds of sinks that sink makes
---@field sourcet table<string, function>  the kinds of sources that source makes
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
}

--- socket.unix(): a unix socket for streams.
-- As a table it has more: unix.stream() and unix.tcp() are the same, unix.dgram() and unix.udp()
-- make a UnixDatagram.
---@return Unix
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

-- ---- arguments ----

-- For a check in a function that the user calls: blames the caller of that. `depth`: how many
-- checks the check is within.
local function bad_argument(number, name, message, depth)
  error(("bad argument #%d to '%s' (%s)"):format(number, name, message), 4 + (depth or 0))
end

local function check_host(host, number, name, depth)
  if type(host) ~= "string" then
    local got = host == nil and "no value" or type(host)
    bad_argument(number, name, "string expected, got " .. got, depth)
  elseif host:find("\0", 1, true) then
    bad_argument(number, name, "host contains a NUL", depth)
  end
end

local function check_port(port, number, name, depth)
  local value = tonumber(port)
  if type(port) ~= "string" and not value then
    local got = port == nil and "no value" or type(port)
    bad_argument(number, name, "number or string expected, got " .. got, depth)
  elseif value and not (math.tointeger(value) and value >= 0 and value <= 65535) then
    bad_argument(number, name, "port out of range", depth)
  end
end

-- A time limit in seconds; a Timeout bounds everything by itself.
local function check_timeout(timeout, number, name)
  if type(timeout) == "userdata" and timeout.is and timeout:is(moonlet.Timeout) then
    if not timeout:pending() then
      bad_argument(number, name, "Timeout has not been started")
    end
    return nil
  elseif timeout ~= nil and type(timeout) ~= "number" then
    bad_argument(number, name, "number expected, got " .. type(timeout))
  elseif timeout ~= timeout then
    bad_argument(number, name, "timeout is not a number")
  end
  return timeout and math.max(timeout, 0)
end

-- ---- making connections ----

local makers = { inet = core.tcp4, inet6 = core.tcp6, unspec = core.tcp }

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

-- A socket bound to a local address, whose family then is the peer's too.
local function bind_local(host, port, family)
  local infos, message, number = dns.getaddrinfo(host)
  for _, info in ipairs(infos or {}) do
    if family == "unspec" or info.family == family then
      local self, ok
      self, message, number = makers[info.family]()
      if self then
        local guard <close> = guarding(self)
        ok, message, number = self:bind(info.addr, port)
        if ok then
          return guard:release()
        end
      end
    end
  end
  return nil, message or "no address of that family", number
end

local function connect(host, port, local_host, local_port, family)
  local self, ok, message, number
  if local_host then
    self, message, number = bind_local(local_host, local_port or 0, family)
  else
    self, message, number = makers[family]()
  end
  if not self then
    return nil, message, number
  end
  local guard <close> = guarding(self)
  ok, message, number = self:connect(host, port)
  if not ok then
    return nil, message, number
  end
  return guard:release()
end

local function check_ends(name, host, port, local_host, local_port)
  check_host(host, 1, name, 1)
  check_port(port, 2, name, 1)
  if local_host ~= nil then
    check_host(local_host, 3, name, 1)
    check_port(local_port or 0, 4, name, 1)
  end
end

--- A TCP connection to host and port.
---@param host string
---@param port integer|string
---@param local_host? string  its own address
---@param local_port? integer|string
---@param family? "inet"|"inet6"|"unspec"  "unspec", either, if nothing is said
---@return TCP|nil
---@return string # "connection refused", or another reason
---@return integer # errno, or the resolver's number
-- Source: LuaSocket.
function socket.connect(host, port, local_host, local_port, family)
  check_ends("connect", host, port, local_host, local_port)
  if not makers[family or "unspec"] then
    error("bad argument #5 to 'connect' (unknown family)", 2)
  end
  return connect(host, port, local_host, local_port, family or "unspec")
end

--- The same over IPv4 only.
---@param host string
---@param port integer|string
---@param local_host? string  its own address
---@param local_port? integer|string
---@return TCP|nil
---@return string # why there is none
---@return integer # errno, or the resolver's number
-- Source: LuaSocket.
function socket.connect4(host, port, local_host, local_port)
  check_ends("connect4", host, port, local_host, local_port)
  return connect(host, port, local_host, local_port, "inet")
end

--- The same over IPv6 only.
---@param host string
---@param port integer|string
---@param local_host? string  its own address
---@param local_port? integer|string
---@return TCP|nil
---@return string # why there is none
---@return integer # errno, or the resolver's number
-- Source: LuaSocket.
function socket.connect6(host, port, local_host, local_port)
  check_ends("connect6", host, port, local_host, local_port)
  return connect(host, port, local_host, local_port, "inet6")
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
---@return TCP|nil
---@return string # why there is none
---@return integer # errno, or the resolver's number
-- Source: LuaSocket.
function socket.bind(host, port, backlog)
  check_host(host, 1, "bind")
  check_port(port, 2, "bind")
  if backlog ~= nil and not math.tointeger(backlog) then
    error(("bad argument #3 to 'bind' (integer expected, got %s)"):format(type(backlog)), 2)
  end
  local infos, message, number = dns.getaddrinfo(host == "*" and "0.0.0.0" or host)
  for _, info in ipairs(infos or {}) do
    local self
    self, message, number = serve(info.family, info.addr, port, backlog)
    if self then
      return self
    end
  end
  return nil, message, number
end

-- Connects a new socket, to host and port or to a path, within so many seconds.
local function connect_within(timeout, self, ...)
  local guard <close> = guarding(self)
  self:settimeout(timeout, "t")
  local ok, message, number = self:connect(...)
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
---@return Stream|nil
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
    self, message, number = connect_within(seconds, core.unix_stream(), parsed.path)
  else
    local host = parsed.host == "" and "localhost" or parsed.host
    self, message, number = connect_within(seconds, core.tcp(), host, parsed.port)
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
---@param seconds? number
-- Source: LuaSocket.
function socket.sleep(seconds)
  if seconds ~= nil and not tonumber(seconds) then
    bad_argument(1, "sleep", "number expected, got " .. type(seconds), -1)
  end
  moonlet.sleep(seconds)
end

-- Those that have a descriptor: others count as never ready.
local function open_ones(list, number)
  if list ~= nil and type(list) ~= "table" then
    bad_argument(number, "select", "table expected, got " .. type(list))
  end
  local open = {}
  for _, object in ipairs(list or {}) do
    local kind = type(object)
    local getfd = (kind == "table" or kind == "userdata") and object.getfd
    if not getfd or getfd(object) ~= socket._SOCKETINVALID then
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
---@param timeout? number|moonlet.Timeout  seconds; below 0: no limit
---@return table # those that can be read; each is also a key, whose value is its place
---@return table # those that can be written
---@return string|nil # "timeout" if there are none
-- Source: LuaSocket.
function socket.select(to_read, to_write, timeout)
  local readers, writers = open_ones(to_read, 1), open_ones(to_write, 2)
  check_timeout(timeout, 3, "select")
  if type(timeout) == "number" and timeout < 0 then
    timeout = nil
  end
  local readable, writable = select_module.select(readers, writers, nil, timeout)
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

--- A function like try that calls finalizer() before it raises. Errors of that are ignored, but not
-- kills and Timeouts.
---@param finalizer? function
---@return function
-- Source: LuaSocket.
function socket.newtry(finalizer)
  return function(...)
    if ... then
      return ...
    end
    if finalizer then
      moonlet.try(finalizer)
    end
    error(setmetatable({ (select(2, ...)) }, Failure), 0)
  end
end

--- socket.try(...): returns its arguments, or raises, for protect, the second one if the first is
-- nil or false.
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

--- socket.sink(mode, sock): a sink that sends.
---@param mode "keep-open"|"close-when-done"  may be left out: "keep-open"
---@param sock Stream
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

--- socket.source(mode, sock [, length]): a source that receives.
---@param mode "until-closed"|"by-length"  may be left out: "until-closed"
---@param sock Stream
---@param length? integer  bytes
---@return table # to be called for chunks; nil is the end
-- Source: LuaSocket; LTN 12.
socket.source = socket.choose(socket.sourcet)

return socket
