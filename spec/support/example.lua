-- The scripts in scripts/examples, each as a program of its own.

local http = require "moonlet.http"
local moonlet = require "moonlet"
local subprocess = require "moonlet.subprocess"
local support = require "support"

local example = {}

local START = 20 -- seconds for a program to start, and to end

local Program = {}
Program.__index = Program

--- Starts an example that is a server, and waits until it listens.
function example.serve(name, ...)
  local self = setmetatable({ client = http.Client { proxy = false, timeout = 10 } }, Program)
  self.process = assert(subprocess.Popen {
    args = { support.interpreter, "scripts/examples/" .. name, ... },
    stdin = subprocess.DEVNULL, stdout = subprocess.PIPE, stderr = subprocess.STDOUT,
  })
  local line = moonlet.with_timeout(START, self.process.stdout.read, self.process.stdout, "l")
  self.url = (line or ""):match("^Listening on (http://127%.0%.0%.1:%d+)/$")
  if not self.url then
    self.process:kill()
    error(("%s does not listen: %s"):format(name, line))
  end
  return self
end

--- A request to it: the response, and its whole body.
function Program:request(path, options)
  local all = { url = self.url .. path }
  for key, value in pairs(options or {}) do
    all[key] = value
  end
  local response = assert(self.client:request(all))
  return response, assert(response:body())
end

--- Its memory, in bytes.
function Program:memory()
  local file <close> = assert(io.open(("/proc/%d/status"):format(self.process.pid)))
  return tonumber(file:read("a"):match("VmRSS:%s*(%d+)")) * 1024
end

--- Ends it, as serve_forever wants it; its exit code.
function Program:stop()
  self.client:close()
  self.process:terminate()
  local code = self.process:wait(START)
  if not code then
    self.process:kill()
    self.process:wait()
  end
  self.process:close()
  return code
end

Program.__close = Program.stop

--- Runs an example to its end: its exit code and what it has printed.
function example.run(name, ...)
  local result = assert(subprocess.run {
    args = { support.interpreter, "scripts/examples/" .. name, ... },
    stdin = subprocess.DEVNULL, stdout = subprocess.PIPE, timeout = START,
  })
  return result.returncode, result.stdout
end

return example
