-- What C libraries keep per thread, and change while they wait: each greenlet has its own.

local pitfalls = require "support.pitfalls"

local function run(code)
  return pitfalls.run("thread", code)
end

describe("a greenlet that waits in a C library keeps", function()
  it("errno and h_errno", function()
    run [[
      for _, name in ipairs { "errno_across", "host_error_across" } do
        local greenlets = {}
        for i = 1, 5 do
          greenlets[i] = moonlet.spawn(thread[name], i, 0.01 / i)
        end
        for i = 1, 5 do
          equal(true, greenlets[i]:get())
        end
      end
    ]]
  end)

  it("the locale of its thread, and others do not get it", function()
    run [[
      local first = moonlet.spawn(thread.locale_across, 0.01)
      moonlet.sleep(0.001)
      equal(true, thread.is_global_locale())
      local second = moonlet.spawn(thread.locale_across, 0.02)
      moonlet.sleep(0.001)
      equal(true, first:get())
      equal(true, thread.is_global_locale())
      equal(true, moonlet.spawn(thread.is_global_locale):get())
      equal(true, second:get())
      equal(true, moonlet.spawn(thread.locale_across, 0):get())
    ]]
  end)

  it("its signal mask, and others do not get it", function()
    run [[
      local SIGUSR1, SIGUSR2 = 10, 12
      for _, old_way in ipairs { false, true } do
        local first = moonlet.spawn(thread.mask_across, SIGUSR1, 0.01, old_way)
        moonlet.sleep(0.001)
        equal(false, thread.is_blocked(SIGUSR1))
        local second = moonlet.spawn(thread.mask_across, SIGUSR2, 0.02, old_way)
        moonlet.sleep(0.001)
        equal(false, thread.is_blocked(SIGUSR2))
        equal(true, first:get())
        equal(false, thread.is_blocked(SIGUSR1))
        equal(true, second:get())
        equal(false, thread.is_blocked(SIGUSR2))
      end
    ]]
  end)
end)

describe("what main has blocked of signals", function()
  it("is blocked in all greenlets", function()
    run [[
      local SIGUSR1 = 10
      local others
      moonlet.spawn(function()
        others = thread.is_blocked(SIGUSR1)
        thread.wait(0)
      end)
      equal(true, thread.mask_across(SIGUSR1, 0.005))
      equal(true, others)
      equal(false, thread.is_blocked(SIGUSR1))
    ]]
  end)
end)
