local support = require "support"

local PRELUDE = [[
local moonlet = require "moonlet"
local function compute()
  local x = 0
  while true do x = x + 1 end
end
]]

local function output_of(code)
  local run = support.run_script(PRELUDE .. code)
  assert.equal(0, run.status, run.stderr)
  return run.stdout, run.stderr
end

describe("with the watchdog on", function()
  it("a Timeout reaches a greenlet that computes", function()
    assert.equal("false\ttrue\n", (output_of [[
      moonlet.watchdog(0.02)
      local timeout
      local g = moonlet.spawn(function()
        timeout = moonlet.Timeout.start_new(0.05)
        return pcall(compute)
      end)
      local ok, err = g:get()
      print(ok, err == timeout)
    ]]))
  end)

  it("a Timeout reaches main and coroutines that compute", function()
    assert.equal("true\ttrue\n", (output_of [[
      moonlet.watchdog(0.02)
      local a = moonlet.Timeout.start_new(0.05)
      local _, in_main = pcall(compute)
      local b = moonlet.Timeout.start_new(0.05)
      local _, in_coroutine = coroutine.resume(coroutine.create(compute))
      print(in_main == a, in_coroutine == b)
    ]]))
  end)

  it("a kill reaches a greenlet that computes", function()
    assert.equal("true\tclosed\n", (output_of [[
      moonlet.watchdog(0.02)
      local closed
      local g = moonlet.spawn(function()
        local _ <close> = setmetatable({}, { __close = function() closed = "closed" end })
        moonlet.getcurrent():kill(nil, 0)
        compute()
      end)
      g:join()
      print(g.value:is(moonlet.GreenletExit), closed)
    ]]))
  end)

  it("a greenlet that holds the hub is reported with its name and traceback", function()
    local _, report = output_of [[
      moonlet.watchdog(0.02)
      local g = moonlet.spawn(function()
        moonlet.with_timeout(0.2, compute)
      end)
      g.name = "the-hog"
      g:join()
    ]]
    assert.matches("the%-hog", report)
    assert.matches("stack traceback:.*:4: in ", report)
  end)

  -- A busy machine may hold up the program itself for so long: then again, with more time.
  it("time spent waiting is not reported", function()
    local report
    for _, seconds in ipairs { 0.02, 0.2, 2 } do
      _, report = output_of(([[
        moonlet.watchdog(%g)
        moonlet.spawn(moonlet.sleep, %g):join()
      ]]):format(seconds, 3 * seconds))
      if report == "" then
        break
      end
    end
    assert.equal("", report)
  end)
end)

describe("without the watchdog", function()
  it("a Timeout waits until the greenlet blocks", function()
    assert.equal("true\tfalse\n", (output_of [[
      local timeout = moonlet.Timeout.start_new(0.01)
      local finish = os.clock() + 0.05
      local ok = pcall(function() repeat until os.clock() > finish end)
      local blocked = pcall(moonlet.sleep, 5)
      print(ok, blocked)
    ]]))
  end)
end)
