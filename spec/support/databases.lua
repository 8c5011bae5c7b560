-- PostgreSQL and Redis servers of a spec's own, in a temporary folder.

local moonlet = require "moonlet"
local socket = require "moonlet.socket"
local subprocess = require "moonlet.subprocess"

local databases = {}

local START = 20 -- seconds for a server to answer, and to end

local Server = {}
Server.__index = Server

-- Runs a command to its end; whether it succeeded, and what it has printed.
local function run(args)
  local result = assert(subprocess.run {
    args = args, stdout = subprocess.PIPE, stderr = subprocess.STDOUT, timeout = START,
  })
  return result.returncode == 0, result.stdout
end

local function temp_folder()
  return (assert(subprocess.check_output { args = { "mktemp", "-d" } }):match("%S+"))
end

--- Ends the server, and removes its folder.
function Server:stop()
  self.process:send_signal(self.signal)
  self.process:close()
  run { "rm", "-rf", self.folder }
end

Server.__close = Server.stop

-- A server that answers once `is_ready()` says so.
local function start(folder, signal, args, is_ready)
  local process = assert(subprocess.Popen {
    args = args, stdin = subprocess.DEVNULL, stdout = subprocess.DEVNULL,
    stderr = subprocess.DEVNULL,
  })
  local server = setmetatable({ process = process, folder = folder, signal = signal }, Server)
  local limit = moonlet.now() + START
  while not is_ready() do
    if process:poll() or moonlet.now() > limit then
      server:stop()
      error(args[1] .. " does not start")
    end
    moonlet.sleep(0.02)
  end
  return server
end

-- Where nobody listens.
local function free_port()
  local probe <close> = assert(socket.bind("127.0.0.1", 0))
  return (select(2, probe:getsockname()))
end

--- Starts Redis; `port` is where. Options: `keeps`, whether it has all that was said to it after
--- restart(), however it ended; `bind`, addresses.
function databases.redis(opts)
  opts = opts or {}
  local port, folder = free_port(), temp_folder()
  local args = {
    "redis-server", "--port", tostring(port), "--bind", opts.bind or "127.0.0.1", "--save", "",
    "--protected-mode", "no", "--appendonly", opts.keeps and "yes" or "no",
    "--appendfsync", "always", "--dir", folder,
  }
  local function is_ready()
    local client <close> = socket.connect("127.0.0.1", port)
    return client and client:send("PING\r\n") and client:receive() == "+PONG"
  end
  local server = start(folder, "SIGTERM", args, is_ready)
  server.port = port
  function server:restart()
    self.process = start(folder, "SIGTERM", args, is_ready).process
  end
  return server
end

--- Starts PostgreSQL, not as root, who may not; `where` is a connection string for it.
function databases.postgres()
  local folder = temp_folder()
  local _, bin = run { "sh", "-c", "ls -d /usr/lib/postgresql/*/bin | tail -n 1" }
  bin = bin:match("%S+") .. "/"
  local function as_user(program, ...)
    return { "sh", "-c", [[if [ "$(id -u)" -eq 0 ]; then
      exec setpriv --reuid=postgres --regid=postgres --clear-groups -- "$@"; else exec "$@"; fi]],
      "sh", bin .. program, ... }
  end
  run { "chown", "postgres", folder }
  local data = folder .. "/data"
  assert(run(as_user("initdb", "-D", data, "-A", "trust", "-U", "postgres", "-N")))
  local server = start(folder, "SIGINT",
    as_user("postgres", "-D", data, "-k", folder, "-c", "listen_addresses=", "-c", "fsync=off"),
    function()
      return (run { bin .. "pg_isready", "-q", "-h", folder })
    end)
  server.where = ("host=%s user=postgres dbname=postgres"):format(folder)
  return server
end

return databases
