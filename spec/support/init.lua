-- What specs share: recorders, waiting for a condition, child processes, signals.

local lfs = require "lfs"
local system = require "system"
local moonlet = require "moonlet"
local guard = require "support.guard"

local support = {}

--- The program that runs this spec: build/moonlet or the plain lua5.4.
support.interpreter = assert(lfs.symlinkattributes("/proc/self/exe", "target"))

--- Whether the moonlet command runs this spec, and not plain Lua with the module.
support.is_moonlet = support.interpreter:match("[^/]*$"):find("moonlet") ~= nil

--- Declares that errors will leave greenlets of this spec; returns the list they are added to,
--- each as { greenlet =, err =, traceback = }. Without it they fail the spec.
support.uncaught = guard.expect_errors

--- Takes the time limit off this spec: for those that watch the loop run dry.
support.unbounded = guard.unbounded

--- Seconds on a clock that never jumps.
support.clock = system.monotime

--- Computes for so many seconds without blocking.
function support.spin(seconds)
  local finish = support.clock() + seconds
  repeat until support.clock() >= finish
end

local Trace = {}
Trace.__index = Trace

function Trace:__call(...)
  for i = 1, select("#", ...) do
    self.n = self.n + 1
    self[self.n] = tostring((select(i, ...)))
  end
end

function Trace:__tostring()
  return table.concat(self, " ", 1, self.n)
end

function Trace:__len()
  return self.n
end

--- A recorder of what happened in which order: `seen("a", 1)`, then `tostring(seen) == "a 1"`.
function support.trace()
  return setmetatable({ n = 0 }, Trace)
end

--- Blocks until condition() is true; an error after so many seconds (default 20).
function support.eventually(condition, seconds)
  local limit = moonlet.Timeout(seconds or 20)
  local ok = limit:run(function()
    while not condition() do
      moonlet.sleep(0.001)
    end
    return true
  end)
  return ok
end

--- Lets every ready greenlet run n times (default 3).
function support.turns(n)
  for _ = 1, n or 3 do
    moonlet.sleep(0)
  end
end

--- A value for `<close>` variables that records text when it is closed.
function support.closing(seen, text)
  return setmetatable({}, {
    __close = function()
      seen(text)
    end,
  })
end

--- f's error as a value; fails where f returns.
function support.error_of(f, ...)
  local ok, err = pcall(f, ...)
  if ok then
    error("the function returned instead of raising", 2)
  end
  return err
end

--- The text run_info writes.
function support.run_info()
  local parts = {}
  moonlet.run_info(function(text)
    parts[#parts + 1] = text
  end)
  return table.concat(parts)
end

local function slurp(path)
  local file <close> = assert(io.open(path, "rb"))
  return file:read("a")
end

local function spill(path, text)
  local file <close> = assert(io.open(path, "wb"))
  assert(file:write(text))
end

local function quote(word)
  return "'" .. tostring(word):gsub("'", [['\'']]) .. "'"
end

local function command_line(opts, script, out, err)
  local words = { "ulimit -c 0;" }
  for name, value in pairs(opts.env or {}) do
    words[#words + 1] = ("export %s=%s;"):format(name, quote(value))
  end
  words[#words + 1] = ("exec timeout -k 1 %g"):format(opts.timeout or 20)
  words[#words + 1] = quote(opts.interpreter or support.interpreter)
  for _, option in ipairs(opts.options or {}) do
    words[#words + 1] = quote(option)
  end
  words[#words + 1] = quote(script)
  for _, word in ipairs(opts.args or {}) do
    words[#words + 1] = quote(word)
  end
  words[#words + 1] = "<" .. quote(opts.stdin or "/dev/null")
  words[#words + 1] = ">" .. quote(out) .. " 2>" .. quote(err)
  return table.concat(words, " ")
end

local TempFile = {
  __close = function(file)
    os.remove(file.path)
  end,
}

local function temp_file()
  return setmetatable({ path = os.tmpname() }, TempFile)
end

--- Runs Lua code as a script in a child process (by default of the program that runs the spec) and
--- waits for it. opts: args, options (of the interpreter), env, interpreter, stdin (a path),
--- timeout (seconds, default 20; its status is then 124).
--- Returns { status = exit status or nil, signal = number or nil, stdout =, stderr = }.
function support.run_script(code, opts)
  opts = opts or {}
  local script <close> = temp_file()
  local out <close> = temp_file()
  local err <close> = temp_file()
  spill(script.path, code)
  local _, how, number = os.execute(command_line(opts, script.path, out.path, err.path))
  return {
    status = how == "exit" and number or nil,
    signal = how == "signal" and number or nil,
    stdout = slurp(out.path),
    stderr = slurp(err.path),
  }
end

--- This process's id.
function support.getpid()
  return assert(tonumber(slurp("/proc/self/stat"):match("^%d+")))
end

--- Whether this program was built with the address sanitizer, or runs under valgrind: memory is
--- dear then.
support.sanitized = slurp("/proc/self/maps"):find("libasan", 1, true) ~= nil or
  slurp("/proc/self/maps"):find("vgpreload", 1, true) ~= nil

--- Whether valgrind runs it, under which a program that cannot be started ends with code 127.
support.valgrind = slurp("/proc/self/maps"):find("vgpreload", 1, true) ~= nil

--- Sends a signal ("QUIT", "USR1" ...) to a process, by default this one, and returns once it
--- was sent. (Not by os.execute, during which SIGINT and SIGQUIT are ignored.)
function support.kill(signal, pid)
  local child = assert(io.popen(("kill -%s %d"):format(signal, pid or support.getpid())))
  assert(child:close())
end

return support
