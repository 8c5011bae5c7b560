-- Facts about shields that end in strange ways.

local moonlet = require "moonlet"
local pool = require "moonlet.pool"
local support = require "support"

describe("A shield", function()
  it("entered in one greenlet and left in another protects neither afterwards", function()
    local resume = coroutine.wrap(function()
      moonlet.shield(coroutine.yield)
    end)
    local first = moonlet.spawn(function()
      resume()
      moonlet.sleep(0)
      moonlet.sleep(100)
    end)
    local second = moonlet.spawn(function()
      resume()
      moonlet.sleep(100)
    end)
    support.turns()
    assert.is_true(first:kill(nil, 10))
    assert.is_true(second:kill(nil, 10))
  end)

  it("in a coroutine that is collected unfinished does not protect its greenlet", function()
    local greenlet = moonlet.spawn(function()
      coroutine.wrap(function()
        moonlet.shield(coroutine.yield)
      end)()
      moonlet.sleep(100)
    end)
    support.turns()
    collectgarbage()
    assert.is_true(greenlet:kill(nil, 10))
  end)

  it("around a nursery that fails lets nothing out but the failure", function()
    support.uncaught()
    local results = { pcall(moonlet.shield, function()
      local ok, err = pcall(pool.nursery, function(nursery)
        nursery:spawn(error, "a child's", 0)
        moonlet.sleep(0.01)
      end)
      assert.is_false(ok)
      assert.equal("a child's", err)
      return "done"
    end) }
    assert.same({ true, "done" }, results)
    assert.is_true(pcall(moonlet.sleep, 0.001))
  end)
end)
