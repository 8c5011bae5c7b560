local moonlet = require "moonlet"
local support = require "support"

local eventually, kill = support.eventually, support.kill
local getcurrent, signal, sleep, spawn = moonlet.getcurrent, moonlet.signal, moonlet.sleep,
                                         moonlet.spawn

describe("signal", function()
  it("runs the function with its arguments in a new greenlet", function()
    local got, where
    local handler <close> = signal("SIGUSR1", function(...)
      got, where = table.pack(...), getcurrent()
    end, "a", nil)
    kill("USR1")
    eventually(function()
      return got
    end)
    handler:cancel()
    assert.same({ n = 2, "a" }, got)
    assert.not_equal(getcurrent(), where)
    assert.is_true(where:is(moonlet.Greenlet))
  end)

  it("takes the signal's number as well", function()
    local got
    local handler <close> = signal(12, function()
      got = true
    end)
    kill("USR2")
    eventually(function()
      return got
    end)
    handler:cancel()
  end)

  it("does not run it before the greenlet that runs blocks", function()
    local got = false
    local handler <close> = signal("SIGUSR1", function()
      got = true
    end)
    kill("USR1")
    support.spin(0.005)
    assert.is_false(got)
    eventually(function()
      return got
    end)
    handler:cancel()
  end)

  it("lets the function block", function()
    local ended = false
    local handler <close> = signal("SIGUSR1", function()
      sleep(0.005)
      ended = true
    end)
    kill("USR1")
    eventually(function()
      return ended
    end)
    handler:cancel()
  end)

  it("runs the function for every signal", function()
    local count = 0
    local handler <close> = signal("SIGUSR1", function()
      count = count + 1
    end)
    for i = 1, 3 do
      kill("USR1")
      eventually(function()
        return count == i
      end)
    end
    handler:cancel()
  end)

  it("with two handlers runs both", function()
    local a, b = false, false
    local first <close> = signal("SIGUSR1", function()
      a = true
    end)
    local second <close> = signal("SIGUSR1", function()
      b = true
    end)
    kill("USR1")
    eventually(function()
      return a and b
    end)
    first:cancel()
    second:cancel()
  end)

  it("wakes a main that waits for something else", function()
    local g = spawn(sleep, 100)
    local handler <close> = signal("SIGQUIT", function()
      g:kill()
    end)
    local killer = spawn(function()
      sleep(0.01)
      kill("QUIT")
    end)
    assert.is_true(g:join(20))
    assert.is_true(g:successful())
    assert.is_true(g.value:is(moonlet.GreenletExit))
    killer:join()
    handler:cancel()
  end)

  it("raises an error of the function in main", function()
    support.uncaught()
    local problem = { "problem" }
    local handler <close> = signal("SIGUSR1", function()
      error(problem)
    end)
    kill("USR1")
    assert.equal(problem, support.error_of(sleep, 5))
    handler:cancel()
  end)
end)

describe("a signal handle", function()
  it("is counted until it is cancelled", function()
    local before = moonlet.stats().signals
    local handler = signal("SIGUSR1", sleep)
    assert.equal(before + 1, moonlet.stats().signals)
    handler:cancel()
    assert.equal(before, moonlet.stats().signals)
  end)

  it("once cancelled runs nothing more, while another one does", function()
    local cancelled, other = false, false
    local handler = signal("SIGUSR1", function()
      cancelled = true
    end)
    local keeper <close> = signal("SIGUSR1", function()
      other = true
    end)
    handler:cancel()
    handler:cancel()
    kill("USR1")
    eventually(function()
      return other
    end)
    assert.is_false(cancelled)
    keeper:cancel()
  end)

  it("is cancelled at the end of its block as a <close> variable", function()
    local before = moonlet.stats().signals
    do
      local _ <close> = signal("SIGUSR1", sleep)
      assert.equal(before + 1, moonlet.stats().signals)
    end
    assert.equal(before, moonlet.stats().signals)
  end)

  it("says what it is by tostring", function()
    local handler <close> = signal("SIGUSR1", sleep)
    assert.matches("signal", tostring(handler):lower())
  end)

  it("cancelled leaves the signal its default action", function()
    local run = support.run_script [[
      local moonlet = require "moonlet"
      local handled = false
      local handler = moonlet.signal("SIGTERM", function()
        print("handled")
        handled = true
      end)
      local pid = io.open("/proc/self/stat"):read("n")
      io.popen("kill -TERM " .. pid):close()
      while not handled do moonlet.sleep(0.001) end
      handler:cancel()
      io.stdout:flush()
      io.popen("kill -TERM " .. pid):close()
      moonlet.sleep(5)
      print("survived")
    ]]
    assert.equal("handled\n", run.stdout)
    assert.equal(15, run.signal)
  end)

  it("does not keep the program waiting", function()
    local run = support.run_script [[
      local moonlet = require "moonlet"
      moonlet.signal("SIGTERM", print)
      print(moonlet.wait())
    ]]
    assert.same({ status = 0, stdout = "true\n", stderr = "" }, run)
  end)
end)
