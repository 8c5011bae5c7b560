-- What is raised when a client's request breaks off or goes wrong: the client's fault and not the
-- application's, answered with a status of its own if there is still time for it.

local moonlet = require "moonlet"

local Failure = {}
Failure.__index = Failure
Failure.__name = "moonlet.wsapi.Failure"

function Failure:__tostring()
  return self.message
end

-- Raises one.
local function fail(status, message)
  error(setmetatable({ status = status, message = message }, Failure), 0)
end

-- The status of an error value, or nil if it is none of these.
local function status_of(err)
  return getmetatable(err) == Failure and err.status or nil
end

-- An error's traceback is known only where it is raised. The error itself is left as it is, since
-- the application's `<close>` variables see what this returns.
local traces = setmetatable({}, { __mode = "k" })

local function traced(err)
  traces[moonlet.getcurrent()] = debug.traceback(tostring(err), 2)
  return err
end

local function is_exit(err)
  return type(err) == "table" and err.is and err:is(moonlet.GreenletExit)
end

-- Deals with an error that `traced` has seen, unless it is a kill: it:fail(err, trace).
local function handle(err, it)
  if is_exit(err) then
    error(err, 0)
  end
  local greenlet = moonlet.getcurrent()
  it:fail(err, traces[greenlet] or tostring(err)) -- out of memory: untraced
  traces[greenlet] = nil
end

-- Calls f(it) and returns its result, or after an error nothing.
local function guard(f, it)
  local ok, result = xpcall(f, traced, it)
  if ok then
    return result
  end
  handle(result, it)
end

return { fail = fail, status_of = status_of, guard = guard, traced = traced, handle = handle }
