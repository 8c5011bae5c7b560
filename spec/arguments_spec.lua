local moonlet = require "moonlet"
local support = require "support"

local Greenlet, Timeout = moonlet.Greenlet, moonlet.Timeout

-- Calls with one wrong argument each: the function's name, the argument's number, the call.
local function cases(g, t)
  local nothing = function() end
  return {
    { "spawn", 1, function() moonlet.spawn() end },
    { "spawn", 1, function() moonlet.spawn(5) end },
    { "spawn", 1, function() moonlet.spawn({}) end },
    { "spawn_later", 1, function() moonlet.spawn_later("soon", nothing) end },
    { "spawn_later", 1, function() moonlet.spawn_later(nothing) end },
    { "spawn_later", 2, function() moonlet.spawn_later(1) end },
    { "spawn_later", 2, function() moonlet.spawn_later(1, 5) end },
    { "sleep", 1, function() moonlet.sleep("long") end },
    { "sleep", 1, function() moonlet.sleep({}) end },
    { "joinall", 1, function() moonlet.joinall() end },
    { "joinall", 1, function() moonlet.joinall(5) end },
    { "joinall", 1, function() moonlet.joinall({ 5 }) end },
    { "joinall", 2, function() moonlet.joinall({}, "long") end },
    { "wait", 1, function() moonlet.wait(5) end },
    { "wait", 1, function() moonlet.wait({ 5 }) end },
    { "wait", 2, function() moonlet.wait({}, "long") end },
    { "wait", 3, function() moonlet.wait({}, nil, "many") end },
    { "iwait", 1, function() moonlet.iwait() end },
    { "iwait", 1, function() moonlet.iwait(5) end },
    { "iwait", 1, function() moonlet.iwait({ 5 }) end },
    { "iwait", 2, function() moonlet.iwait({}, "long") end },
    { "iwait", 3, function() moonlet.iwait({}, nil, "many") end },
    { "kill", 1, function() moonlet.kill() end },
    { "kill", 1, function() moonlet.kill(5) end },
    { "killall", 1, function() moonlet.killall(5) end },
    { "killall", 1, function() moonlet.killall({ 5 }) end },
    { "killall", 3, function() moonlet.killall({}, nil, "long") end },
    { "with_timeout", 1, function() moonlet.with_timeout("long", nothing) end },
    { "with_timeout", 2, function() moonlet.with_timeout(1) end },
    { "with_timeout", 2, function() moonlet.with_timeout(1, 5) end },
    { "try", 1, function() moonlet.try() end },
    { "shield", 1, function() moonlet.shield() end },
    { "shield", 1, function() moonlet.shield(5) end },
    { "signal", 1, function() moonlet.signal() end },
    { "signal", 1, function() moonlet.signal("SIGNONE", nothing) end },
    { "signal", 1, function() moonlet.signal(-1, nothing) end },
    { "signal", 1, function() moonlet.signal(5000, nothing) end },
    { "signal", 2, function() moonlet.signal("SIGUSR1") end },
    { "signal", 2, function() moonlet.signal("SIGUSR1", 5) end },
    { "set_error_handler", 1, function() moonlet.set_error_handler(5) end },
    { "run_info", 1, function() moonlet.run_info(5) end },
    { "watchdog", 1, function() moonlet.watchdog("often") end },

    { "Greenlet", 1, function() Greenlet(5) end },
    { "spawn", 1, function() Greenlet.spawn(5) end },
    { "spawn_later", 1, function() Greenlet.spawn_later("soon", nothing) end },
    { "spawn_later", 2, function() Greenlet.spawn_later(1) end },
    { "start", 1, function() g.start(5) end },
    { "start_later", 1, function() g:start_later("soon") end },
    { "start_later", 1, function() g:start_later() end },
    { "join", 1, function() g:join("long") end },
    { "join", 1, function() g.join() end },
    { "join", 1, function() g.join(t) end },
    { "get", 1, function() g:get("long") end },
    { "get", 1, function() g.get({}) end },
    { "kill", 2, function() g:kill(nil, "long") end },
    { "ready", 1, function() g.ready(5) end },
    { "dead", 1, function() g.dead(5) end },
    { "successful", 1, function() g.successful(5) end },
    { "link", 1, function() g:link() end },
    { "link", 1, function() g:link(5) end },
    { "link_value", 1, function() g:link_value(5) end },
    { "link_exception", 1, function() g:link_exception(5) end },

    { "Timeout", 1, function() Timeout("long") end },
    { "start_new", 1, function() Timeout.start_new("long") end },
    { "start", 1, function() t.start(5) end },
    { "start", 1, function() t.start(g) end },
    { "cancel", 1, function() t.cancel(5) end },
    { "pending", 1, function() t.pending(5) end },
    { "run", 1, function() t:run() end },
    { "run", 1, function() t:run(5) end },
  }
end

describe("a wrong argument", function()
  it("is named, with its function and the caller's line, by all functions", function()
    local g, t = Greenlet(function() end), Timeout(1)
    for _, case in ipairs(cases(g, t)) do
      local name, number, call = table.unpack(case)
      local line = debug.getinfo(call, "S").linedefined
      local wanted = ("_spec.lua:%d: bad argument #%d to '%s' ("):format(line, number, name)
      local ok, err = pcall(call)
      local got = ok and "no error" or tostring(err)
      if not got:find(wanted, 1, true) then
        error(("expected: ...%s...)\ngot: %s"):format(wanted, got), 0)
      end
    end
    assert.is_false(g.started)
    assert.is_false(t:pending())
  end)

  it("that is nil where it may be left out is none", function()
    local g = moonlet.spawn(function() end)
    moonlet.sleep(nil)
    assert.is_true(g:join(nil))
    g:get(nil)
    assert.is_true(g:kill(nil, nil))
    assert.same({ g }, moonlet.joinall({ g }, nil, nil))
    assert.same({ g }, moonlet.wait({ g }, nil, nil))
    assert.is_true(moonlet.killall({ g }, nil, nil))
    Timeout(nil, nil):start():cancel()
    moonlet.set_error_handler(nil)
  end)

  it("a number as a string is a number, as everywhere in Lua", function()
    moonlet.sleep("0")
    assert.is_true(moonlet.spawn(function() end):join("1"))
  end)

  it("a callable object is a function", function()
    local callable = setmetatable({}, { __call = function(_, x) return x end })
    assert.equal("v", moonlet.spawn(callable, "v"):get())
    assert.equal("v", moonlet.with_timeout(1, callable, "v"))
    assert.equal("v", Timeout(1):run(callable, "v"))
    assert.equal("v", moonlet.shield(callable, "v"))
    assert.same({ true, "v" }, { moonlet.try(callable, "v") })
  end)

  it("times beyond all clocks wait for ever", function()
    for _, seconds in ipairs { math.huge, 1e300, math.maxinteger } do
      local g = moonlet.spawn(moonlet.sleep, seconds)
      assert.is_false(g:join(0.001))
      g:kill()
      local timeout = Timeout.start_new(seconds)
      support.turns()
      assert.is_true(timeout:pending())
      timeout:cancel()
    end
  end)
end)
