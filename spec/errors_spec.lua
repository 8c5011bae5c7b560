local event = require "moonlet.event"
local moonlet = require "moonlet"
local support = require "support"

local run_script = support.run_script
local sleep, spawn, trace = moonlet.sleep, moonlet.spawn, support.trace

describe("an error that leaves a greenlet", function()
  it("is reported on stderr with message, traceback and name, and disturbs nobody", function()
    local run = run_script [[
      local moonlet = require "moonlet"
      local function culprit()
        error("on purpose")
      end
      local g = moonlet.spawn(function()
        culprit()
        return 1
      end)
      g.name = "the-culprit"
      local other = moonlet.spawn(print, "other")
      moonlet.joinall { g, other }
      print("main", g:successful())
    ]]
    assert.equal(0, run.status)
    assert.equal("other\nmain\tfalse\n", run.stdout)
    assert.matches(":3: on purpose", run.stderr)
    assert.matches("stack traceback:", run.stderr)
    assert.matches("culprit", run.stderr)
    assert.matches("the%-culprit", run.stderr)
  end)

  it("is reported when it is a table, with its __tostring, or no text at all", function()
    local run = run_script [[
      local moonlet = require "moonlet"
      local problem = setmetatable({}, { __tostring = function() return "a fine problem" end })
      moonlet.joinall {
        moonlet.spawn(error, problem), moonlet.spawn(error, {}), moonlet.spawn(error, nil),
        moonlet.spawn(error, setmetatable({}, { __tostring = function() error("worse") end })),
      }
      print("main")
    ]]
    assert.equal(0, run.status)
    assert.equal("main\n", run.stdout)
    assert.matches("a fine problem", run.stderr)
  end)

  it("is reported once, even if someone waits for the greenlet", function()
    local run = run_script [[
      local moonlet = require "moonlet"
      local g = moonlet.spawn(error, "on purpose", 0)
      print(pcall(g.get, g))
    ]]
    assert.equal(0, run.status)
    assert.equal("false\ton purpose\n", run.stdout)
    local _, count = run.stderr:gsub("on purpose", "")
    assert.equal(1, count)
  end)

  it("is reported for an error in a __close variable too", function()
    local errors = support.uncaught()
    local g = spawn(function()
      local _ <close> = setmetatable({}, {
        __close = function()
          error("while closing", 0)
        end,
      })
      return 1
    end)
    g:join()
    assert.equal("while closing", g.exception)
    assert.equal(1, #errors)
  end)

  it("is a Timeout's as well", function()
    local run = run_script [[
      local moonlet = require "moonlet"
      moonlet.spawn(function()
        moonlet.Timeout.start_new(0.001)
        moonlet.sleep(10)
      end):join()
    ]]
    assert.equal(0, run.status)
    assert.matches("0.001 seconds", run.stderr)
  end)

  it("is not reported when it is a GreenletExit", function()
    local run = run_script [[
      local moonlet = require "moonlet"
      local a = moonlet.spawn(error, moonlet.GreenletExit())
      local b = moonlet.spawn(error, moonlet.GreenletExit:extend()())
      local c = moonlet.spawn(moonlet.sleep, 10)
      moonlet.sleep(0)
      c:kill()
      moonlet.joinall { a, b, c }
      print(a:successful(), b:successful(), c:successful())
    ]]
    assert.same({ status = 0, stdout = "true\ttrue\ttrue\n", stderr = "" }, run)
  end)
end)

describe("set_error_handler", function()
  it("gives greenlet, error and traceback to the function instead of printing", function()
    local run = run_script [[
      local moonlet = require "moonlet"
      local problem, args = {}, nil
      moonlet.set_error_handler(function(...)
        args = table.pack(...)
      end)
      local g = moonlet.spawn(function()
        error(problem)
      end)
      g:join()
      print(args.n, args[1] == g, args[2] == problem, args[3])
    ]]
    assert.equal(0, run.status)
    assert.equal("", run.stderr)
    assert.matches("^3\ttrue\ttrue\tstack traceback:.*:7: in ", run.stdout)
  end)

  it("of nil brings the default back", function()
    local run = run_script [[
      local moonlet = require "moonlet"
      moonlet.set_error_handler(function() end)
      moonlet.spawn(error, "silent"):join()
      moonlet.set_error_handler(nil)
      moonlet.spawn(error, "printed"):join()
    ]]
    assert.equal(0, run.status)
    assert.matches("printed", run.stderr)
    assert.not_matches("silent", run.stderr)
  end)

  it("to a function that fails does no harm to the others", function()
    local run = run_script [[
      local moonlet = require "moonlet"
      moonlet.set_error_handler(function() error("bad handler") end)
      local a = moonlet.spawn(error, "first")
      local b = moonlet.spawn(print, "second")
      moonlet.joinall { a, b }
      print("main", a.exception)
    ]]
    assert.equal(0, run.status)
    assert.equal("second\nmain\tfirst\n", run.stdout)
    assert.matches("bad handler", run.stderr)
  end)
end)

describe("LoopExit", function()
  it("is raised in main when it blocks and nothing can ever wake it", function()
    support.unbounded()
    local err = support.error_of(function()
      event.Event():wait()
    end)
    assert.is_true(err:is(moonlet.LoopExit))
    assert.matches("this operation would block forever", tostring(err))
  end)

  it("is raised from every blocking call", function()
    support.unbounded()
    local queue = require "moonlet.queue"
    local lock = require "moonlet.lock"
    local stuck = spawn(function()
      event.Event():wait()
    end)
    local calls = {
      function() queue.Queue():get() end,
      function() lock.Semaphore(0):acquire() end,
      function() event.AsyncResult():get() end,
      function() stuck:join() end,
      function() stuck:get() end,
      function() moonlet.joinall { stuck } end,
      function() moonlet.wait { stuck } end,
      function() table.sort({ 1, 2 }, function() event.Event():wait() end) end,
    }
    for _, call in ipairs(calls) do
      assert.is_true(support.error_of(call):is(moonlet.LoopExit))
    end
    stuck:kill()
  end)

  it("names every greenlet and what it waits for", function()
    support.unbounded()
    local gate = event.Event()
    local stuck = spawn(function()
      gate:wait()
    end)
    stuck.name = "the-stuck-one"
    local text = tostring(support.error_of(stuck.join, stuck))
    stuck:kill()
    assert.matches("the%-stuck%-one", text)
    assert.matches("[Ee]vent", text)
    assert.matches("main", text)
  end)

  it("once caught lets the program go on", function()
    support.unbounded()
    local gate = event.Event()
    for _ = 1, 3 do
      assert.is_true(support.error_of(gate.wait, gate):is(moonlet.LoopExit))
      assert.equal("v", spawn(function()
        sleep(0.001)
        return "v"
      end):get())
    end
    moonlet.spawn_later(0.001, gate.set, gate)
    assert.is_true(gate:wait())
  end)

  it("leaves the greenlets that cannot be woken as they are", function()
    support.unbounded()
    local gate = event.Event()
    local stuck = spawn(gate.wait, gate)
    assert.is_true(support.error_of(stuck.join, stuck):is(moonlet.LoopExit))
    assert.is_false(stuck:dead())
    gate:set()
    assert.is_true(stuck:get())
  end)

  it("does not come while a timer, a Timeout or a timeout argument is left", function()
    support.unbounded()
    local gate = event.Event()
    assert.is_false(gate:wait(0.002))
    local timeout = moonlet.Timeout.start_new(0.002)
    assert.equal(timeout, support.error_of(gate.wait, gate))
    moonlet.spawn_later(0.002, gate.set, gate)
    assert.is_true(gate:wait())
  end)

  it("uncaught ends the program with status 1 and the list on stderr", function()
    local run = run_script [[
      local moonlet = require "moonlet"
      local gate = require "moonlet.event".Event()
      local g = moonlet.spawn(function() gate:wait() end)
      g.name = "the-stuck-one"
      print("before")
      g:join()
      print("after")
    ]]
    assert.equal(1, run.status)
    assert.equal("before\n", run.stdout)
    assert.matches("this operation would block forever", run.stderr)
    assert.matches("the%-stuck%-one", run.stderr)
  end)
end)

describe("an error in main", function()
  it("ends the program with status 1, though greenlets are left", function()
    local run = run_script [[
      local moonlet = require "moonlet"
      moonlet.spawn(moonlet.sleep, 100)
      moonlet.sleep(0)
      error("main failed")
    ]]
    assert.equal(1, run.status)
    assert.matches("main failed", run.stderr)
    assert.matches("stack traceback:", run.stderr)
  end)

  it("raised after a wait in a C callout can be caught as ever", function()
    local problem = {}
    assert.equal(problem, support.error_of(function()
      table.sort({ 1, 2 }, function()
        sleep(0.001)
        error(problem)
      end)
    end))
  end)
end)

describe("errors and GreenletExit", function()
  it("an error inside pcall in a greenlet goes to that pcall, across waits", function()
    local seen = trace()
    spawn(function()
      local ok, err = pcall(function()
        sleep(0.001)
        error("inner", 0)
      end)
      seen(ok, err)
    end):join()
    assert.equal("false inner", tostring(seen))
  end)

  it("xpcall's handler sees the stack of the error, across waits", function()
    local text, line
    spawn(function()
      local function culprit()
        sleep(0.001)
        line = debug.getinfo(1, "l").currentline + 1
        error("inner")
      end
      xpcall(culprit, function(err)
        text = debug.traceback(err)
      end)
    end):join()
    assert.matches("errors_spec%.lua:" .. line .. ": in ", text)
  end)

  it("a GreenletExit has a text, its own if it was given one", function()
    assert.matches("GreenletExit", tostring(moonlet.GreenletExit()))
    assert.matches("my reason", tostring(moonlet.GreenletExit("my reason")))
    assert.is_true(moonlet.GreenletExit():is(moonlet.GreenletExit))
    assert.is_false(moonlet.GreenletExit():is(moonlet.LoopExit))
  end)
end)
