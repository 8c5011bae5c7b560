-- Programs in which C libraries wait where it is hard to be safe: the modules of tests/pitfalls.

local program = require "support.program"
local support = require "support"

local pitfalls = {}

-- Where the build is whose command or module runs this.
local build = support.is_moonlet and support.interpreter:match("(.*)/") or
  assert(package.searchpath("moonlet", package.cpath)):match("(.*)/lua/[^/]*$")

--- A file of tests/pitfalls, as it is built; nil if it is not.
function pitfalls.find(file)
  return package.searchpath(file, ("%s/tests/pitfalls/?"):format(build), "/")
end

local PRELUDE = [[
  require("moonlet.monkey").patch_c()
  local %s = assert(package.loadlib(%q, "luaopen_%s"))()

  -- Runs f(i) in so many greenlets at once; their first results.
  local function all(count, f, ...)
    local greenlets, results = {}, {}
    for i = 1, count do
      greenlets[i] = moonlet.spawn(f, ...)
    end
    moonlet.joinall(greenlets, nil, true)
    for i = 1, count do
      results[i] = greenlets[i].value
    end
    return results
  end

  -- Lets go of the lock as soon as others have had to wait a while.
  local function let_go_later(lock)
    moonlet.spawn(function()
      moonlet.sleep(0.02)
      lock:let_go()
    end)
  end

  -- Blocks until condition() is true.
  local function eventually(condition)
    local limit <close> = moonlet.Timeout.start_new(20)
    while not condition() do
      moonlet.sleep(0.001)
    end
  end
]]

local function full(name, code)
  return PRELUDE:format(name, pitfalls.find(name .. ".so"), name) .. code
end

--- Runs a program with the module `name` in a variable of that name, patched; it must end well and
--- write nothing to stderr. Returns what it writes to stdout.
function pitfalls.run(name, code)
  return program.run_quietly(full(name, code))
end

--- The same for one that may write to stderr, which is returned, too.
function pitfalls.run_noisily(name, code)
  return program.run(full(name, code))
end

return pitfalls
