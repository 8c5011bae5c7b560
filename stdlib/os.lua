--- Descriptors, files and processes, with operations that block only their greenlet.
-- Results are those of POSIX's functions, errors nil, message, errno.
---@field stdin? moonlet.os.File standard input, with a buffer apart from that of io.stdin; it
--   cannot be closed; nil if it is not open
---@field WNOHANG integer for waitpid
---@field WUNTRACED integer for waitpid
-- Differs: tp_read, tp_write, make_nonblocking | there | a File reads and writes regular files in
--   threads; other descriptors need not be non-blocking
-- Differs: forkpty, posix_spawn | there | not there: see moonlet.subprocess

local core = require "moonlet.os.core"
local moonlet = require "moonlet"
local subprocess = require "moonlet.subprocess"

local os = {}
for name, value in pairs(core) do
  os[name] = value
end
os.standard = nil
os.stdin = core.standard(0)

local INTERVAL = 0.02 -- seconds between looks where the kernel does not tell

-- ---- programs ----

-- As os.execute says it.
local function outcome(code, message, errno)
  if not code then
    return nil, message, errno
  elseif code < 0 then
    return nil, "signal", -code
  end
  return code == 0 or nil, "exit", code
end

--- Runs a command in the shell and waits until it has ended.
-- Source: os.execute.
---@param command? string without it: whether there is a shell
---@return boolean? # true if its exit code is 0, else nil
---@return string? # "exit", "signal", or a message if it could not be run
---@return integer? # the exit code, the signal, or errno
function os.execute(command)
  if command == nil then
    return subprocess.call { args = ":", shell = true } == 0
  elseif type(command) ~= "string" then
    error(("bad argument #1 to 'execute' (string expected, got %s)"):format(type(command)), 2)
  end
  return outcome(subprocess.call { args = command, shell = true })
end

-- What popen returns: closing it waits for the command.
local Pipe = core.File:extend("File")

function Pipe:new(fd, process)
  Pipe.super.new(self, fd, false)
  self._process = process
end

function Pipe:close()
  local process = self._process
  local closed, message, errno = Pipe.super.close(self)
  if not process then
    return closed, message, errno
  end
  self._process = nil
  return outcome(process:wait())
end

Pipe.__close = Pipe.close

--- Runs a command in the shell, with a pipe to it or from it.
-- Closing the file waits until the command has ended, and returns what execute does.
-- Source: io.popen.
---@param command string
---@param mode? "r"|"w" read what it writes ("r", also if nothing is said), or write what it reads
---@return moonlet.os.File? # or nil
---@return string? # a message
---@return integer? # errno
function os.popen(command, mode)
  if type(command) ~= "string" then
    error(("bad argument #1 to 'popen' (string expected, got %s)"):format(type(command)), 2)
  elseif mode ~= nil and mode ~= "r" and mode ~= "w" then
    error("bad argument #2 to 'popen' (invalid mode)", 2)
  end
  local input, output, errno = core.pipe()
  if not input then
    return nil, output, errno
  end
  local ours, theirs, stream = input, output, "stdout"
  if mode == "w" then
    ours, theirs, stream = output, input, "stdin"
  end
  local process, message, failure = subprocess.Popen { args = command, shell = true,
                                                       [stream] = theirs }
  core.close(theirs)
  if not process then
    core.close(ours)
    return nil, message, failure
  end
  return Pipe(ours, process)
end

-- ---- children ----

local FLAGS = { WNOHANG = core.WNOHANG, WUNTRACED = core.WUNTRACED }

local function check_flags(options)
  if options == nil or math.type(options) == "integer" then
    return options or 0
  elseif type(options) ~= "string" then
    error(("bad argument #2 to 'waitpid' (integer or string expected, got %s)"):format(
            type(options)), 3)
  end
  local flags = 0
  for name in options:gmatch("[^%s|,]+") do
    flags = flags | (FLAGS[name] or error(("bad argument #2 to 'waitpid' (unknown option '%s')")
                                            :format(name), 3))
  end
  return flags
end

local function check_pid(pid)
  if pid ~= nil and pid ~= -1 and not (math.tointeger(pid) and pid > 0) then
    local got = type(pid) == "number" and "not a process" or "number expected, got " .. type(pid)
    error(("bad argument #1 to 'waitpid' (%s)"):format(got), 3)
  end
end

--- Waits for a child process; takes a status from nobody else.
-- Without a pid: for any that was made by this module's fork.
-- Source: gevent.os.waitpid, luaposix's posix.sys.wait.wait.
-- Differs: waitpid(-1) may take any child's status | takes those of forked children only
---@param pid? integer -1: as without
---@param options? integer|string WNOHANG, WUNTRACED, or the names of both: "WNOHANG|WUNTRACED"
---@param timeout? number|moonlet.Timeout seconds
---@return integer? # the child's pid; 0 with WNOHANG while it runs; nil at the timeout, for errors
---@return "exited"|"killed"|"stopped"|"running"|string # or "timeout", or a message
---@return integer? # exit code, signal, or errno
function os.waitpid(pid, options, timeout)
  check_pid(pid)
  local flags = check_flags(options)
  if flags & core.WUNTRACED == 0 or flags & core.WNOHANG ~= 0 then
    return core.waitpid(pid, flags, timeout)
  end
  local deadline = type(timeout) == "number" and moonlet.now() + timeout
  while true do
    local found, how, code = core.waitpid(pid, flags | core.WNOHANG, timeout)
    if how ~= "running" then
      return found, how, code
    elseif deadline and moonlet.now() >= deadline then
      return nil, "timeout"
    end
    moonlet.sleep(INTERVAL)
  end
end

--- Forks; when the child has ended, calls a function in a new greenlet of the parent.
-- Source: gevent.os.fork_and_watch.
-- Differs: the callback gets a watcher | it gets what waitpid returns
---@param callback fun(pid: integer, how: string, code: integer)
---@return integer? # the child's pid, and in the child 0; or nil
---@return string? # a message
---@return integer? # errno
function os.fork_and_watch(callback)
  if type(callback) ~= "function" and not (getmetatable(callback) or {}).__call then
    error(("bad argument #1 to 'fork_and_watch' (function expected, got %s)"):format(
            type(callback)), 2)
  end
  local pid, message, errno = core.fork()
  if pid and pid > 0 then
    moonlet.spawn(function()
      callback(core.waitpid(pid))
    end)
  end
  return pid, message, errno
end

return os
