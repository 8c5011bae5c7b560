-- Facts about errors nobody caught: what the handler sees, and whose traceback is whose.

local moonlet = require "moonlet"
local support = require "support"

-- Runs f with every uncaught error given to `handler`; the guard's own comes back afterwards.
local function with_handler(handler, f)
  support.uncaught()
  local was = moonlet.set_error_handler(handler)
  local _ <close> = setmetatable({}, { __close = function()
    moonlet.set_error_handler(was)
  end })
  f()
end

describe("An error handler", function()
  it("sees the exception and the traceback in the greenlet too", function()
    local exception, traceback
    with_handler(function(greenlet)
      exception, traceback = greenlet.exception, greenlet.traceback
    end, function()
      moonlet.spawn(error, "seen", 0):join()
    end)
    assert.equal("seen", exception)
    assert.is_string(traceback)
  end)

  it("may look at the greenlet's arguments, which are there until it has ended, or not", function()
    local args
    with_handler(function(greenlet)
      args = greenlet.args
    end, function()
      moonlet.spawn(function(_, _)
        error("with arguments", 0)
      end, "a", "b"):join()
    end)
    assert.is_true(args == nil or args.n == 2 and args[1] == "a" and args[2] == "b")
  end)

  it("gets the error by which a greenlet was killed before it ran", function()
    local seen
    with_handler(function(_, err)
      seen = err
    end, function()
      moonlet.spawn(function() end):kill("before its time")
    end)
    assert.equal("before its time", seen)
  end)

  it("may kill, start and wait for such a greenlet: it is dead", function()
    local sleepers, ran = setmetatable({}, { __mode = "k" }), 0
    for _ = 1, 10 do
      sleepers[moonlet.spawn(moonlet.sleep, 0.02)] = true
    end
    moonlet.sleep(0)
    local function body()
      ran = ran + 1
    end
    for _, make in ipairs { moonlet.spawn, moonlet.Greenlet } do
      local handled = 0
      with_handler(function(greenlet)
        local dead = greenlet:ready()
        moonlet.kill(greenlet, "again")
        greenlet:start()
        greenlet:join()
        moonlet.sleep(0)
        handled = handled + (dead and 1 or 0)
      end, function()
        for i = 1, 10 do
          local greenlet = make(body, i)
          greenlet:kill("before its time")
          assert.equal("before its time", greenlet.exception)
        end
      end)
      assert.equal(10, handled)
    end
    assert.equal(0, ran)
    collectgarbage()
    local asleep = 0
    for _ in pairs(sleepers) do
      asleep = asleep + 1
    end
    assert.equal(10, asleep)
    for sleeper in pairs(sleepers) do
      sleeper:join()
    end
  end)

  it("that blocks is not reached by a Timeout that the failed greenlet left", function()
    local finished
    with_handler(function()
      moonlet.sleep(0.02)
      finished = true
    end, function()
      moonlet.spawn(function()
        moonlet.Timeout.start_new(0.001)
        error("with a Timeout", 0)
      end):join()
    end)
    assert.is_true(finished)
  end)
end)

describe("A close variable of a greenlet that fails", function()
  it("may look at the greenlet's arguments", function()
    support.uncaught()
    local args
    moonlet.spawn(function(_, _)
      local _ <close> = setmetatable({}, { __close = function()
        args = moonlet.getcurrent().args
      end })
      error("with arguments", 0)
    end, "a", "b"):join()
    assert.is_true(args == nil or args.n == 2 and args[1] == "a" and args[2] == "b")
  end)
end)

describe("A traceback", function()
  local function here()
    error("the same words", 0)
  end

  local function there()
    error("the same words", 0)
  end

  it("belongs to its own error, though another one had the same words", function()
    support.uncaught()
    local first = moonlet.spawn(function()
      here()
    end)
    local second = moonlet.spawn(function()
      there()
    end)
    moonlet.joinall { first, second }
    assert.matches("'here'", first.traceback)
    assert.matches("'there'", second.traceback)
  end)

  it("of an error that was re-raised in main shows its place, as the command prints it", function()
    for _, call in ipairs { "m.with_timeout(1, fails)", "m.shield(fails)",
                            "m.spawn(fails):get()" } do
      local run = support.run_script(([[
        local m = require "moonlet"
        m.set_error_handler(function() end)
        local function deep() local t = nil; return t.field end
        local function fails() m.sleep(0) deep() end
        %s
      ]]):format(call), { interpreter = os.getenv("MOONLET") or "build/moonlet" })
      assert.equal(1, run.status)
      assert.matches("'deep'", run.stderr)
    end
  end)
end)

describe("The report on stderr", function()
  it("comes also for errors whose __tostring fails or blocks", function()
    for _, body in ipairs { "error('no text')", "moonlet.sleep(0)", "return 5" } do
      local run = support.run_script(([[
        moonlet = require "moonlet"
        local err = setmetatable({}, { __tostring = function() %s end })
        moonlet.spawn(function() error(err) end):join()
      ]]):format(body))
      assert.equal(0, run.status)
      assert.matches("Greenlet%-1.*failed with", run.stderr)
    end
  end)
end)

describe("LoopExit", function()
  it("is raised also when a greenlet's __tostring fails", function()
    local run = support.run_script [[
      local moonlet = require "moonlet"
      local event = require "moonlet.event"
      local Mute = moonlet.Greenlet:extend()
      function Mute.__tostring() error("no name") end
      Mute(function() event.Event():wait() end):start()
      local ok, err = pcall(event.Event().wait, event.Event())
      print(ok, type(err) == "table" and err:is(moonlet.LoopExit))
    ]]
    assert.equal("false\ttrue\n", run.stdout)
  end)
end)
