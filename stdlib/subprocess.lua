--- Programs that are run.
-- A program gets its three standard streams and no other descriptor, and default handling of
-- signals. Each is reaped as soon as it has ended, whether somebody waits for it or not.
---@field PIPE table for a stream of Popen: a pipe to the program
---@field DEVNULL table for a stream of Popen: /dev/null
---@field STDOUT table for stderr: where stdout goes
-- Differs: bufsize, text, encoding, preexec_fn, pass_fds, close_fds | there | strings are bytes;
--   File:setvbuf; the rest is not there
-- Differs: TimeoutExpired | raised | nil, "timeout" is returned
-- Differs: getoutput, getstatusoutput | there | run { args = command, shell = true }

local Object = require "moonlet.class"
local check = require "moonlet.subprocess.options"
local core = require "moonlet.subprocess.core"
local moonlet = require "moonlet"
local select = require("moonlet.select").select

local PIPE, DEVNULL, STDOUT = check.PIPE, check.DEVNULL, check.STDOUT
local EPIPE = 32

local open, close_fd = io.open, require("moonlet.os.core").close

-- ---- starting ----

local STREAMS = { "stdin", "stdout", "stderr" }

-- What is closed once the program has what it needs.
local Closing = {}
Closing.__index = Closing

function Closing:__close()
  for _, fd in ipairs(self.fds) do
    close_fd(fd)
  end
  if self.null then
    self.null:close()
  end
end

local redirect = {}

redirect[PIPE] = function(self, closing, i)
  local file, fd, errno = core.pipe(i == 1 and 2 or 1)
  if not file then
    return nil, fd, errno
  end
  self[STREAMS[i]] = file
  table.insert(closing.fds, fd)
  return fd
end

redirect[DEVNULL] = function(_, closing)
  local message, errno
  if not closing.null then
    closing.null, message, errno = open("/dev/null", "r+")
  end
  return closing.null and core.fd(closing.null), message, errno
end

-- The descriptor a stream of the program gets; -1: the one we have ourselves.
local function descriptor(self, options, closing, fds, i)
  local value = options[STREAMS[i]]
  if value == nil then
    return -1
  elseif redirect[value] then
    return redirect[value](self, closing, i)
  elseif value == STDOUT then
    return fds[2] >= 0 and fds[2] or 1
  end
  return core.fd(value)
end

local function start(self, options)
  local closing <close> = setmetatable({ fds = {} }, Closing)
  local fds, message, errno = {}, nil, nil
  for i = 1, 3 do
    fds[i], message, errno = descriptor(self, options, closing, fds, i)
    if not fds[i] then
      return nil, message, errno
    end
  end
  local ok
  for _, file in ipairs(options.candidates) do
    ok, message, errno = core.start(self, file, options.search, options.list, options.environment,
                                    options.cwd, fds, options.start_new_session,
                                    options.process_group)
    if ok or not check.is_missing(errno) then
      break
    end
  end
  return ok, message, errno
end

-- ---- Popen ----

--- A program that runs. As a `<close>` variable its pipes are closed, and it is waited for.
-- moonlet.wait and moonlet.iwait take it as ready once it has ended.
-- Source: gevent.subprocess.Popen.
---@class moonlet.subprocess.Popen: moonlet.class.Object
---@field pid integer
---@field returncode? integer its exit code, or minus the signal that ended it; nil before
---@field args string|string[] as given
---@field stdin? moonlet.os.File where a pipe was asked for
---@field stdout? moonlet.os.File
---@field stderr? moonlet.os.File
---@overload fun(options: table): moonlet.subprocess.Popen?, string?, integer?
local Popen = core.Process:extend("Popen")

--- Starts a program; returns nil, message, errno if it cannot be started. Fields of the options:
--
--     args       a list of strings, or a string: the program's name, with `shell` a command.
--                May be left out: Popen { "ls", "-l", stdout = PIPE }
--     shell      true: /bin/sh runs it
--     executable the program, where that is not the first of args
--     stdin, stdout, stderr  PIPE, DEVNULL, STDOUT (stderr only), a descriptor, a file or an
--                object with getfd; if nothing is said, our own. One that is non-blocking stops
--                being so, for all who share it
--     cwd        the folder it runs in
--     env        a table: its environment, instead of ours
--     start_new_session  true: in a session of its own
--     process_group      an integer: in that process group, 0 a new one
---@param options table
function Popen:new(options)
  options = check.named(options, "Popen")
  local checked = check.options(options, "Popen")
  self.args = options.args
  local ok, message, errno = start(self, checked)
  if not ok then
    self._failure = table.pack(nil, message, errno)
    self:_close_pipes()
  end
end

-- A class returns the object it made; this one, and those below it, may return a failure.
local function let_fail(class)
  local meta = getmetatable(class)
  local construct = meta.__call
  function meta.__call(...)
    local self = construct(...)
    local failure = self._failure
    if failure then
      return table.unpack(failure, 1, failure.n)
    end
    return self
  end
end

let_fail(Popen)
Popen.__extend = let_fail

function Popen:_close_pipes()
  for _, name in ipairs(STREAMS) do
    if self[name] then
      self[name]:close()
    end
  end
end

--- Closes the pipes and waits until the program has ended, without limit.
---@return integer? # as from wait
function Popen:close()
  self:_close_pipes()
  return (self:wait())
end

Popen.__close = Popen.close

local function remaining(deadline, timeout)
  return deadline and deadline - moonlet.now() or timeout
end

-- What came of communicating so far; a second call goes on with it.
local function conversation(self, input)
  local state = self._conversation
  if state and input ~= nil then
    error("communicate was called before: input is for the first call", 3)
  elseif input ~= nil and not self.stdin then
    error("there is no pipe to give input to: stdin is not PIPE", 3)
  end
  state = state or { stdout = {}, stderr = {}, input = input or "", given = 0 }
  self._conversation = state
  return state
end

local function is_open(file)
  return file and file:getfd() >= 0
end

-- Whether there are more reads and writes to come, and the files to wait for.
local function pending(self, state)
  local reads, writes = {}, {}
  if is_open(self.stdin) then
    if state.given < #state.input then
      writes[1] = self.stdin
    else
      self.stdin:close()
    end
  end
  for _, name in ipairs { "stdout", "stderr" } do
    if is_open(self[name]) then
      reads[#reads + 1] = self[name]
    end
  end
  return #reads + #writes > 0, reads, writes
end

local function take(self, state, file)
  local data, message, errno = core.take(file)
  if data == nil then
    return nil, message, errno
  elseif data == "" then
    file:close()
  elseif data then
    table.insert(state[file == self.stdout and "stdout" or "stderr"], data)
  end
  return true
end

-- A program need not read what it is given.
local function give(state, file)
  local count, message, errno = core.give(file, state.input, state.given)
  if count then
    state.given = state.given + count
  elseif errno == EPIPE then
    file:close()
  else
    return nil, message, errno
  end
  return true
end

local function collected(self, state, name)
  if not self[name] then
    return nil
  end
  state[name] = { table.concat(state[name]) }
  return state[name][1]
end

-- Exchanges what there is and waits for the end: true, or nil, message, errno.
local function converse(self, state, timeout)
  local deadline = type(timeout) == "number" and moonlet.now() + timeout
  local more, reads, writes = pending(self, state)
  while more do
    local readable, writable = select(reads, writes, nil, remaining(deadline, timeout))
    if #readable + #writable == 0 then
      return nil, "timeout"
    end
    for _, file in ipairs(readable) do
      local ok, message, errno = take(self, state, file)
      if not ok then
        return nil, message, errno
      end
    end
    for _, file in ipairs(writable) do
      local ok, message, errno = give(state, file)
      if not ok then
        return nil, message, errno
      end
    end
    more, reads, writes = pending(self, state)
  end
  local _, why = self:wait(remaining(deadline, timeout))
  if why == "timeout" then
    return nil, why
  end
  return true
end

--- Gives the program its input and closes stdin, reads stdout and stderr to their ends, and waits
-- until it has ended. After a timeout or a kill it may be called again: nothing is lost.
-- Source: gevent.subprocess.Popen.communicate.
-- Differs: a timeout raises TimeoutExpired | returns nil, "timeout"
---@param input? string
---@param timeout? number|moonlet.Timeout seconds
---@return string? stdout # nil where no pipe was asked for, and at the timeout
---@return string? stderr # likewise; or "timeout"; or a message, if reading or writing failed
---@return integer? # errno
function Popen:communicate(input, timeout)
  check.argument(input == nil or type(input) == "string", 1, "communicate", "string", input)
  check.timeout(timeout, 2, "communicate")
  local state = conversation(self, input)
  local ok, message, errno = converse(self, state, timeout)
  if not ok then
    return nil, message, errno
  end
  return collected(self, state, "stdout"), collected(self, state, "stderr")
end

--- Popen:link(callback), Popen:rawlink(callback): calls a function in a new greenlet, with the
-- Popen, once the program has ended.
-- Source: gevent.subprocess.Popen.rawlink.
---@param callback fun(popen: moonlet.subprocess.Popen)
function Popen:link(callback)
  local meta = getmetatable(callback)
  check.argument(type(callback) == "function" or type(meta) == "table" and meta.__call ~= nil, 1,
                 "link", "function", callback)
  moonlet.spawn(function()
    self:wait()
    callback(self)
  end)
end

Popen.rawlink = Popen.link

function Popen:__tostring()
  local code, pid = self.returncode, self.pid
  local state = not pid and "not started" or not code and "running" or
                code < 0 and ("ended by signal %d"):format(-code) or ("exit code %d"):format(code)
  return ("<Popen: pid %s, %s>"):format(pid, state)
end

-- ---- functions ----

--- What check_call, check_output and run with `check` raise when the exit code is not 0.
-- Source: subprocess.CalledProcessError.
---@class moonlet.subprocess.CalledProcessError: moonlet.class.Object
---@field returncode integer the exit code, or minus a signal
---@field cmd string|string[] what was run
---@field output? string what it wrote to stdout, where that was captured
---@field stderr? string likewise
---@overload fun(code: integer, cmd: any, output?: string, stderr?: string): CalledProcessError
local CalledProcessError = Object:extend("CalledProcessError")

--- An error.
---@param returncode integer
---@param cmd any
---@param output? string
---@param stderr? string
function CalledProcessError:new(returncode, cmd, output, stderr)
  self.returncode, self.cmd, self.output, self.stderr = returncode, cmd, output, stderr
end

function CalledProcessError:__tostring()
  local cmd = type(self.cmd) == "table" and table.concat(self.cmd, " ") or tostring(self.cmd)
  local code = self.returncode or 0
  return ("the command '%s' %s %d"):format(cmd, code < 0 and "was ended by signal" or
                                                "ended with exit code", math.abs(code))
end

local function stop(process)
  process:kill()
  process:_close_pipes()
  process:wait()
end

-- However the block is left by an error, the program does not outlive it.
local function end_with_block(process)
  return setmetatable({}, { __close = function(_, err)
    if err ~= nil then
      stop(process)
    end
  end })
end

-- Runs a program to its end: a result as of run, or nil, message, errno.
local function complete(options, name)
  options = check.named(options, name)
  local own, process_options = check.run_options(options, name)
  local process, message, errno = Popen(process_options)
  if not process then
    return nil, message, errno
  end
  local scope <close> = end_with_block(process)
  local state = conversation(process, own.input)
  local ok, why, failure = converse(process, state, own.timeout)
  if not ok then
    stop(process)
    return nil, why, failure, scope
  end
  local out, err = collected(process, state, "stdout"), collected(process, state, "stderr")
  local result = { args = options.args, returncode = process.returncode, stdout = out,
                   stderr = err }
  if own.check and result.returncode ~= 0 then
    error(CalledProcessError(result.returncode, options.args, out, err), 0)
  end
  return result
end

local subprocess = { PIPE = PIPE, DEVNULL = DEVNULL, STDOUT = STDOUT, Popen = Popen,
                     CalledProcessError = CalledProcessError }

--- Runs a program to its end. Beside those of Popen the options may have the fields:
--
--     input           a string for its stdin
--     timeout         seconds; then it is killed, and nil, "timeout" is returned
--     check           true: raise a CalledProcessError unless its exit code is 0
--     capture_output  true: stdout and stderr are pipes
--
-- The result has the fields args, returncode, stdout and stderr (nil where not captured).
-- Source: gevent.subprocess.run.
-- Differs: a timeout raises TimeoutExpired | returns nil, "timeout"
---@param options table
---@return table? # or nil
---@return string? # "timeout" or a message
---@return integer? # errno
---@raise a CalledProcessError, if asked to
function subprocess.run(options)
  local result, message, errno = complete(options, "run")
  return result, message, errno
end

--- Runs a program to its end, with the options of run but capture_output.
-- Source: gevent.subprocess.call.
---@param options table
---@return integer? # its exit code, or minus the signal that ended it; or nil
---@return string? # "timeout" or a message
---@return integer? # errno
function subprocess.call(options)
  local result, message, errno = complete(options, "call")
  return result and result.returncode, message, errno
end

--- The same, but its exit code must be 0.
-- Source: gevent.subprocess.check_call.
---@param options table
---@return integer? # 0, or nil
---@return string? # "timeout" or a message
---@return integer? # errno
---@raise a CalledProcessError
function subprocess.check_call(options)
  local result, message, errno = complete(options, "check_call")
  return result and result.returncode, message, errno
end

--- The same; returns what the program writes to stdout.
-- Source: gevent.subprocess.check_output.
---@param options table without stdout and check
---@return string? # or nil
---@return string? # "timeout" or a message
---@return integer? # errno
---@raise a CalledProcessError, whose `output` is what it wrote
function subprocess.check_output(options)
  local result, message, errno = complete(options, "check_output")
  return result and result.stdout, message, errno
end

return subprocess
