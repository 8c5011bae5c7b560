local actor = require "moonlet.actor"
local moonlet = require "moonlet"
local support = require "support"

describe("actor.supervisor", function()
  local seen

  before_each(function()
    seen = support.trace()
  end)

  -- A child that notes its starts and ends; a message ends it: by an error, unless it is "return".
  local function child(self, name)
    local _ <close> = setmetatable({}, { __close = function()
      seen("-" .. name)
    end })
    seen("+" .. name)
    local message = self:receive()
    if message ~= "return" then
      error(message, 0)
    end
  end

  local function supervise(options, restarts)
    local children = {}
    for i, name in ipairs { "a", "b", "c" } do
      children[i] = { name = name, start = child, args = { name },
                      restart = restarts and restarts[i] }
    end
    local supervisor = actor.spawn(actor.supervisor(children, options))
    finally(function()
      supervisor:kill()
    end)
    moonlet.sleep(0.01)
    assert.equal("+a +b +c", tostring(seen))
    return supervisor
  end

  local function tell(name, message)
    actor.whereis(name):send(message)
    moonlet.sleep(0.01)
  end

  it("starts its children, and stops them in the reverse order", function()
    local supervisor = supervise()
    local children = supervisor:call("children", 1)
    assert.equal("a", children[1].id)
    assert.equal(actor.whereis("c"), children[3].actor)
    supervisor:kill()
    assert.equal("+a +b +c -c -b -a", tostring(seen))
    assert.is_nil(actor.whereis("a"))
  end)

  it("one_for_one starts the one anew that ended", function()
    support.uncaught()
    supervise()
    tell("b", "broken")
    assert.equal("+a +b +c -b +b", tostring(seen))
    assert.is_false(actor.whereis("b"):dead())
  end)

  it("one_for_all starts all anew", function()
    support.uncaught()
    supervise { strategy = "one_for_all" }
    tell("b", "broken")
    assert.equal("+a +b +c -b -c -a +a +b +c", tostring(seen))
  end)

  it("rest_for_one starts those anew that were started after it", function()
    support.uncaught()
    supervise { strategy = "rest_for_one" }
    tell("b", "broken")
    assert.equal("+a +b +c -b -c +b +c", tostring(seen))
  end)

  it("asks each child's kind whether to start it anew", function()
    support.uncaught()
    supervise({}, { "permanent", "transient", "temporary" })
    for _, name in ipairs { "a", "b", "c" } do
      tell(name, "return")
    end
    assert.equal("+a +b +c -a +a -b -c", tostring(seen))
    assert.is_nil(actor.whereis("b"))
    tell("a", "broken")
    assert.matches("%-a %+a$", tostring(seen))
  end)

  it("starts transient children anew that failed or were killed, temporary ones never", function()
    support.uncaught()
    supervise({}, { "permanent", "transient", "temporary" })
    tell("b", "broken")
    actor.whereis("b"):kill()
    moonlet.sleep(0.01)
    tell("c", "broken")
    assert.equal("+a +b +c -b +b -b +b -c", tostring(seen))
  end)

  it("gives up when they end too often, taking all along", function()
    local errors = support.uncaught()
    local supervisor = supervise { limit = 2, within = 10 }
    tell("a", "first")
    tell("a", "second")
    assert.is_false(supervisor:dead())
    tell("a", "third")
    assert.same({ true, "child a ends too often, last of: third" }, { supervisor:wait(1) })
    assert.equal("+a +b +c -a +a -a +a -a -c -b", tostring(seen))
    assert.equal(4, #errors)
  end)

  it("forgets restarts that were long ago", function()
    support.uncaught()
    local supervisor = supervise { limit = 1, within = 0.02 }
    for _ = 1, 4 do
      tell("a", "broken")
      moonlet.sleep(0.03)
    end
    assert.is_false(supervisor:dead())
  end)

  it("may be the child of another one, started anew with its own children", function()
    support.uncaught()
    local inner = actor.supervisor({ { name = "x", start = child, args = { "x" } } }, { limit = 0 })
    local outer = actor.spawn(actor.supervisor { { name = "inner", start = inner } })
    finally(function()
      outer:kill()
    end)
    moonlet.sleep(0.01)
    tell("x", "broken")
    moonlet.sleep(0.01)
    assert.equal("+x -x +x", tostring(seen))
    assert.is_false(actor.whereis("x"):dead())
  end)

  it("does not wait for ever for a child that will not end", function()
    local stubborn = actor.spawn(actor.supervisor { {
      patience = 0.01,
      start = function()
        moonlet.shield(moonlet.sleep, 0.2)
      end,
    } })
    moonlet.sleep(0.01)
    local begun = support.clock()
    stubborn:kill()
    assert.is_true(support.clock() - begun < 0.15)
    moonlet.sleep(0.25)
  end)

  it("refuses what it cannot do", function()
    local function refusal(...)
      return support.error_of(actor.supervisor, ...)
    end
    assert.matches("bad argument #1 to 'supervisor' %(table expected, got nil", refusal())
    assert.matches("child 1: a table with the function 'start'", refusal { {} })
    assert.matches("unknown restart 'never'", refusal { { start = child, restart = "never" } })
    assert.matches("unknown strategy 'all'", refusal({}, { strategy = "all" }))
  end)
end)
