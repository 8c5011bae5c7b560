-- Facts about iwait, raw links, counters, and kills in a random order.

local event = require "moonlet.event"
local moonlet = require "moonlet"
local queue = require "moonlet.queue"
local support = require "support"
local testing = require "moonlet.testing"

describe("iwait", function()
  it("lets all its consumers go once the last object has been given", function()
    local e = event.Event()
    local next_object = moonlet.iwait { e }
    local consumers = { moonlet.spawn(next_object), moonlet.spawn(next_object) }
    support.turns()
    e:set()
    assert.equal(2, #moonlet.joinall(consumers, 10))
    assert.equal(e, consumers[1].value)
    assert.is_nil(consumers[2].value)
    moonlet.killall(consumers)
  end)
end)

describe("A raw link that fails", function()
  it("is reported, and those behind it are called", function()
    local run = support.run_script [[
      local moonlet = require "moonlet"
      local greenlet = moonlet.spawn(function() end)
      greenlet:rawlink(function() error("in a raw link") end)
      greenlet:rawlink(function() print("called") end)
      greenlet:join()
      moonlet.sleep(0)
    ]]
    assert.equal("called\n", run.stdout)
    assert.matches("in a raw link", run.stderr)
  end)
end)

describe("stats().lag", function()
  it("is the time for which a greenlet has held the hub", function()
    moonlet.spawn(support.spin, 0.05)
    moonlet.sleep(0.01)
    assert.is_true(moonlet.stats().lag >= 0.04)
  end)
end)

describe("In a random order", function()
  it("a kill comes after the wake-up that was there before it, as in the usual order", function()
    for seed = 1, 10 do
      local returned = testing.shuffle(seed, function()
        local channel = queue.Channel()
        local putter = moonlet.spawn(channel.put, channel, "item")
        moonlet.idle()
        assert.equal("item", channel:get_nowait())
        putter:kill(nil, 0)
        return putter:get(10)
      end)
      assert.is_true(returned)
    end
  end)
end)
