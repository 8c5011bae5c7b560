-- What the specs of sockets share: pairs, servers, peers that do not answer.

local lfs = require "lfs"
local moonlet = require "moonlet"
local socket = require "moonlet.socket"
local support = require "support"

local sockets = {}

--- A server on a free port of 127.0.0.1, and the port.
function sockets.listen(backlog)
  local server = assert(socket.bind("127.0.0.1", 0, backlog))
  return server, select(2, server:getsockname())
end

local Closing = {}
Closing.__index = Closing

function Closing:close()
  for _, each in ipairs(self) do
    each:close()
  end
end

Closing.__close = Closing.close

--- A value for a `<close>` variable that closes some sockets.
function sockets.closing(...)
  return setmetatable({ ... }, Closing)
end

--- Two ends of a TCP connection, and what closes both: `local near, far, _ <close> = pair()`.
function sockets.pair()
  local server <close>, port = sockets.listen()
  local near = assert(socket.connect("127.0.0.1", port))
  local far = assert(server:accept())
  return near, far, sockets.closing(near, far)
end

--- A port of 127.0.0.1 at which nobody listens.
function sockets.dead_port()
  local server <close>, port = sockets.listen()
  assert(server)
  return port
end

--- A server that never answers: its backlog is full. Its `port`; to be closed.
function sockets.black_hole(host)
  local server = assert(socket.bind(host or "127.0.0.1", 0, 0))
  local hole = sockets.closing(server)
  hole.port = select(2, server:getsockname())
  repeat
    local client = assert(socket.tcp())
    client:settimeout(0.05)
    table.insert(hole, client)
  until not client:connect(host or "127.0.0.1", hole.port)
  return hole
end

--- Sends until the kernel takes no more; returns how many bytes it took.
function sockets.fill(sock)
  local data, total = ("x"):rep(1 << 16), 0
  local block, whole = sock:gettimeout()
  sock:settimeout(0.005)
  sock:settimeout(nil, "t")
  repeat
    local sent, _, partial = sock:send(data)
    total = total + (sent or partial)
  until not sent
  sock:settimeout(block)
  sock:settimeout(whole, "t")
  return total
end

--- How many descriptors this process has open.
function sockets.count_descriptors()
  local count = 0
  for _ in lfs.dir("/proc/self/fd") do
    count = count + 1
  end
  return count
end

--- To be called in a `describe`, below an after_each that closes and above a before_each that opens
--- something: none of its specs may leave a descriptor open.
function sockets.watch_descriptors(before_each, after_each)
  local before
  socket.dns.toip("localhost") -- what the first lookup opens stays: it wakes the loop from threads
  before_each(function()
    collectgarbage()
    before = sockets.count_descriptors()
  end)
  after_each(function()
    collectgarbage()
    collectgarbage()
    assert(sockets.count_descriptors() <= before, "the spec leaves a descriptor open")
  end)
end

--- Runs f(...) in a greenlet, which has blocked, or ended, when this returns it.
function sockets.start(f, ...)
  local greenlet = moonlet.spawn(f, ...)
  moonlet.sleep(0)
  moonlet.sleep(0)
  return greenlet
end


--- Runs Lua code that has moonlet and socket in a child process (see support.run_script), which
--- must succeed and report no error; returns its output.
function sockets.run(code, opts)
  opts = opts or {}
  opts.env = opts.env or {}
  opts.env.LUA_PATH = "spec/?.lua;spec/?/init.lua;" .. package.path
  local result = support.run_script([[
    local moonlet = require "moonlet"
    local socket = require "moonlet.socket"
local support = require "support"
  ]] .. code, opts)
  if result.status ~= 0 or result.stderr ~= "" then
    error(("the script failed (%s, %s): %s"):format(result.status, result.signal, result.stderr), 2)
  end
  return result.stdout
end

return sockets
