-- Programs in which a C library blocks: the module of tests/callout/blocking.c.

local program = require "support.program"
local support = require "support"

local callouts = {}

-- Where the build is whose command or module runs this.
local build = support.is_moonlet and support.interpreter:match("(.*)/") or
  assert(package.searchpath("moonlet", package.cpath)):match("(.*)/lua/[^/]*$")

--- The ways in which the module is linked: its calls bound when they are first made, or at once.
callouts.linked = { "lazy", "now" }

--- The module's path.
function callouts.path(linked)
  return ("%s/tests/callout/%s.so"):format(build, linked)
end

local PRELUDE = [[
  local PATH = %q
  local function load_blocking()
    return assert(package.loadlib(PATH, "luaopen_blocking"))()
  end
  %s

  -- f's results; meanwhile `feed` is called, when the others have run for a while.
  local function fed(feed, f, ...)
    local begun = false
    local feeder = moonlet.spawn(function()
      moonlet.sleep(0.02)
      begun = true
      feed()
    end)
    local results = table.pack(f(...))
    assert(begun, "it did not wait")
    feeder:get()
    return table.unpack(results, 1, results.n)
  end

  -- How long f takes, in seconds, and its results; another greenlet runs meanwhile.
  local function timed(f, ...)
    local ticks = 0
    local ticker = moonlet.spawn(function()
      while true do
        ticks = ticks + 1
        moonlet.sleep(0.005)
      end
    end)
    local start = moonlet.now()
    local results = table.pack(f(...))
    ticker:kill()
    assert(ticks > 0, "nothing else ran")
    return moonlet.now() - start, table.unpack(results, 1, results.n)
  end
]]

local BEFORE = [[
  local blocking = load_blocking()
  require("moonlet.monkey").patch_c()
]]

local AFTER = [[
  require("moonlet.monkey").patch_c()
  local blocking = load_blocking()
]]

--- Runs a program with `blocking`, patched; it must end well and write nothing to stderr. Returns
--- what it writes to stdout. opts: linked (default "lazy"), late (loaded after it was patched).
function callouts.run(code, opts)
  opts = opts or {}
  local path = callouts.path(opts.linked or "lazy")
  local prelude = PRELUDE:format(path, opts.late and AFTER or BEFORE)
  return program.run_quietly(prelude .. code, opts)
end

return callouts
