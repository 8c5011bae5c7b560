-- Sockets that are bound to an address, for servers.

local dns = require "moonlet.socket.dns"
local socket = require "moonlet.socket"

local listen = {}

-- Linux's numbers of errors.
local EACCES, ENXIO, EADDRINUSE, ECONNREFUSED = 13, 6, 98, 111

-- An address, as address.parse returns it or { host, port }, as one reads it: "127.0.0.1:80",
-- "[::1]:80", "*:80", "unix:/path".
function listen.describe(where)
  if where.path then
    return "unix:" .. where.path
  end
  local host, port = where.host or where[1], where.port or where[2]
  if host:find(":", 1, true) then
    host = "[" .. host .. "]"
  end
  return ("%s:%d"):format(host == "" and "*" or host, port)
end

-- The address that a socket is bound to: { host, port } or { path = path }.
function listen.address_of(sock)
  local host, port = sock:getsockname()
  if port then
    return { host, port }
  end
  return { path = host }
end

-- Closes a socket unless it got where it should.
local Attempt = {}
Attempt.__index = Attempt

function Attempt:__close()
  if self.sock then
    self.sock:close()
  end
end

-- Makes a socket and takes it through prepare(sock), which returns true, or nil, message, errno.
local function attempt(make, prepare)
  local sock, message, errno = make()
  if not sock then
    return nil, message, errno
  end
  local guard <close> = setmetatable({ sock = sock }, Attempt)
  local ok
  ok, message, errno = prepare(sock)
  if not ok then
    return nil, message, errno
  end
  guard.sock = nil
  return sock
end

local MAKERS = {
  stream = { inet = socket.tcp4, inet6 = socket.tcp6, unix = socket.unix.stream },
  datagram = { inet = socket.udp4, inet6 = socket.udp6, unix = socket.unix.dgram },
}

-- Two servers may have one port after SO_REUSEADDR, if it is for datagrams.
local function set_options(sock, kind, opts)
  local ok, message, errno = true, nil, nil
  if kind == "stream" then
    ok, message, errno = sock:setoption("reuseaddr", true)
  end
  if ok and opts.reuse_port then
    ok, message, errno = sock:setoption("reuseport", true)
  end
  return ok, message, errno
end

local function bind(kind, family, host, port, opts)
  return attempt(MAKERS[kind][family], function(sock)
    local ok, message, errno = set_options(sock, kind, opts)
    if ok and host == "::" then
      ok, message, errno = sock:setoption("ipv6-v6only", false)
    end
    if ok then
      ok, message, errno = (sock.bind or sock.setsockname)(sock, host, port)
    end
    return ok, message, errno
  end)
end

-- One socket for IPv6 and IPv4, or for IPv4 where there is no IPv6.
local function bind_any(kind, port, opts)
  local sock, message, errno = bind(kind, "inet6", "::", port, opts)
  if not sock and errno ~= EADDRINUSE and errno ~= EACCES then
    sock, message, errno = bind(kind, "inet", "0.0.0.0", port, opts)
  end
  return sock, message, errno
end

-- The first of a name's addresses that can be had, of IPv4 before IPv6.
local function bind_host(kind, host, port, opts)
  local infos, message, errno = dns.getaddrinfo(host)
  if not infos then
    return nil, message, errno
  end
  for _, family in ipairs { "inet", "inet6" } do
    for _, info in ipairs(infos) do
      if info.family == family then
        local sock
        sock, message, errno = bind(kind, family, info.addr, port, opts)
        if sock then
          return sock
        end
      end
    end
  end
  return nil, message, errno
end

-- Whether the path is a socket's, of a server that is gone. (No other file answers ENXIO.)
local function is_stale(kind, path)
  local file, _, errno = io.open(path, "r+")
  if file then
    file:close()
    return false
  elseif errno ~= ENXIO then
    return false
  end
  local probe <close> = MAKERS[kind].unix()
  local connected, _, refusal = probe:connect(path)
  return not connected and refusal == ECONNREFUSED
end

local function bind_path(kind, path)
  local function prepare(sock)
    return sock:bind(path)
  end
  local sock, message, errno = attempt(MAKERS[kind].unix, prepare)
  if not sock and errno == EADDRINUSE and is_stale(kind, path) then
    os.remove(path)
    sock, message, errno = attempt(MAKERS[kind].unix, prepare)
  end
  return sock, message, errno
end

-- A socket of the kind "stream" or "datagram" that is bound to an address from address.parse; or
-- nil, a message with the address, errno. Options: reuse_port. The file of a unix socket that no
-- server has any more is replaced.
function listen.bind(kind, where, opts)
  local sock, message, errno
  if where.path then
    sock, message, errno = bind_path(kind, where.path)
  elseif where.host == "" then
    sock, message, errno = bind_any(kind, where.port, opts)
  else
    sock, message, errno = bind_host(kind, where.host, where.port, opts)
  end
  if not sock then
    return nil, ("%s: %s"):format(message, listen.describe(where)), errno
  end
  return sock
end

return listen
