-- What every spec is held to: a time limit, no uncaught errors, nothing left behind.

local moonlet = require "moonlet"

local guard = {}

local LIMIT = 30
local COUNTERS = { "greenlets", "ready", "timers", "watchers", "pinned", "signals" }
local SETTLE_PASSES = 40

local current

local function snapshot()
  local stats, counters = moonlet.stats(), {}
  for _, name in ipairs(COUNTERS) do
    counters[name] = math.tointeger(stats[name]) or error("stats()." .. name .. " is no integer", 0)
  end
  return counters
end

local function grown(before)
  local now, list = snapshot(), {}
  for _, name in ipairs(COUNTERS) do
    if now[name] > before[name] then
      list[#list + 1] = ("%s %d -> %d"):format(name, before[name], now[name])
    end
  end
  return #list > 0 and table.concat(list, ", ") or nil
end

-- Greenlets that are about to end need a few turns for it; whatever stays after them has leaked.
local function settled(before)
  for pass = 1, SETTLE_PASSES do
    if not grown(before) then
      return nil
    end
    moonlet.sleep(pass < SETTLE_PASSES / 2 and 0 or 0.002)
  end
  return grown(before)
end

local function everything_running()
  local lines = {}
  moonlet.run_info(function(text)
    lines[#lines + 1] = text
  end)
  return table.concat(lines)
end

local function describe_errors(errors)
  local lines = {}
  for _, failure in ipairs(errors) do
    lines[#lines + 1] = ("%s: %s\n%s"):format(tostring(failure.greenlet), tostring(failure.err),
                                              tostring(failure.traceback))
  end
  return table.concat(lines, "\n")
end

local Guard = {}
Guard.__index = Guard

-- Runs the spec's body, then what it gave to finally(), whether the body failed or not.
function Guard:run(body, finally)
  local _ <close> = setmetatable({}, { __close = finally })
  body()
  self.passed = true
end

-- Runs as the spec ends. An error of the spec itself goes first; it is not seen in __close's
-- argument, since busted's message handler turns it into nil.
function Guard:__close()
  self.bound:cancel()
  moonlet.set_error_handler(nil)
  current = nil
  if not self.passed then
    if #self.errors > 0 and not self.expects_errors then
      io.stderr:write("uncaught in the spec that failed:\n", describe_errors(self.errors), "\n")
    end
    return
  end
  if #self.errors > 0 and not self.expects_errors then
    error("an error nobody caught left a greenlet:\n" .. describe_errors(self.errors), 0)
  end
  local leak = settled(self.before)
  if leak then
    error("the spec leaves something behind: " .. leak .. "\n" .. everything_running(), 0)
  end
end

-- Guards the block in which its result is a <close> variable.
function guard.start()
  local self = setmetatable({ errors = {}, expects_errors = false, before = snapshot() }, Guard)
  moonlet.set_error_handler(function(greenlet, err, traceback)
    table.insert(self.errors, { greenlet = greenlet, err = err, traceback = traceback })
  end)
  self.bound = moonlet.Timeout(LIMIT, ("the spec took longer than %d seconds"):format(LIMIT))
  self.bound:start()
  current = self
  return self
end

-- The errors that left greenlets of the running spec, which declares that it expects some.
function guard.expect_errors()
  current.expects_errors = true
  return current.errors
end

-- Takes the time limit off the running spec, since a pending Timeout keeps the loop alive.
function guard.unbounded()
  current.bound:cancel()
end

return guard
