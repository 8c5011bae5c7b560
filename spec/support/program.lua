-- Programs for specs of what changes a whole program.

local assert = require "luassert"
local support = require "support"

local program = {}

-- What they begin with: expectations, and a check of blocking calls.
local PRELUDE = [[
  local moonlet = require "moonlet"

  local function equal(expected, got)
    if expected ~= got then
      error(("%s expected, got %s"):format(tostring(expected), tostring(got)), 2)
    end
  end

  -- f's results; it must have let another greenlet run.
  local function cooperative(f, ...)
    local ran = false
    moonlet.spawn(function() ran = true end)
    local results = table.pack(f(...))
    if not ran then
      error("nothing else ran", 2)
    end
    return table.unpack(results, 1, results.n)
  end
]]

--- Runs a program, which must end well; returns what it writes to stdout and to stderr.
function program.run(code, opts)
  local result = support.run_script(PRELUDE .. code, opts)
  assert.equal(0, result.status, result.stdout .. result.stderr)
  return result.stdout, result.stderr
end

--- The same for one that must write nothing to stderr.
function program.run_quietly(code, opts)
  local stdout, stderr = program.run(code, opts)
  if support.valgrind then -- which does not know pidfd_open
    stderr = stderr:gsub("%-%-%d+%-%- [^\n]*\n", "")
  end
  assert.equal("", stderr)
  return stdout
end

return program
