local actor = require "moonlet.actor"
local moonlet = require "moonlet"
local support = require "support"

-- An actor that replies to a number with its double, and otherwise does as the message says.
local function handyman(self)
  for message, call in self:messages() do
    if message == "fail" then
      error("broken", 0)
    elseif message == "return" then
      return
    elseif call and message ~= "silence" then
      call:reply(message * 2, self)
    end
  end
end

describe("moonlet.actor", function()
  local spawned

  before_each(function()
    spawned = {}
  end)

  -- Kills it at the end of the spec.
  local function keep(which)
    table.insert(spawned, which)
    finally(function()
      for _, each in ipairs(spawned) do
        each:kill()
      end
    end)
    return which
  end

  local function spawn(...)
    return keep(actor.spawn(...))
  end

  it("runs a body with itself and its arguments", function()
    local seen
    local which = actor.spawn(function(self, ...)
      seen = { self, actor.self(), ... }
    end, 1, nil, 3)
    assert.is_true(which:wait())
    assert.same({ which, which, 1, nil, 3 }, seen)
    assert.is_nil(actor.self())
  end)

  it("receives messages in the order in which they were sent", function()
    local seen = support.trace()
    local which = spawn(function(self)
      for message in self:messages() do
        seen(message)
      end
    end)
    for _, message in ipairs { "a", false, 3 } do
      assert.is_true(which:send(message))
    end
    moonlet.sleep(0.01)
    assert.equal("a false 3", tostring(seen))
  end)

  it("receives with a timeout", function()
    local which = actor.spawn(function(self)
      assert.same({ nil, "timeout" }, { self:receive(0) })
      assert.same({ nil, "timeout" }, { self:receive(0.01) })
      assert.equal("x", self:receive())
    end)
    moonlet.sleep(0.03)
    which:send("x")
    assert.same({ true, nil }, { which:wait() })
  end)

  it("replies to calls with any values, once", function()
    local which = spawn(function(self)
      local _, call = self:receive()
      assert.is_true(call:reply(1, nil, "three"))
      assert.is_false(call:reply(2))
      _, call = self:receive()
      assert.equal("question", call.message)
      call:reply()
    end)
    assert.same({ n = 3, 1, nil, "three" }, table.pack(which:call("first")))
    assert.same({ n = 0 }, table.pack(which:call("question", 1)))
  end)

  it("bounds calls by a timeout, whose late reply goes nowhere", function()
    local which = spawn(handyman)
    assert.same({ nil, "timeout" }, { which:call("silence", 0.01) })
    assert.equal(4, which:call(2, 0.5))
    local limit = moonlet.Timeout(0.01)
    assert.equal(limit, support.error_of(limit.run, limit, which.call, which, "silence", limit))
    local caller = moonlet.spawn(which.call, which, "silence")
    moonlet.sleep(0)
    caller:kill()
    assert.equal(6, which:call(3))
    assert.is_nil(next(which._calls))
  end)

  it("ends the calls of an actor that ends, in their order", function()
    for message, reason in pairs { fail = "broken", ["return"] = false, kill = "killed" } do
      if message == "fail" then
        support.uncaught()
      end
      local which = actor.spawn(handyman)
      local results, callers = support.trace(), {}
      for i = 1, 3 do
        callers[i] = moonlet.spawn(function()
          local _, why, what = which:call("silence")
          results(i .. why .. tostring(what or false))
        end)
      end
      moonlet.sleep(0)
      collectgarbage()
      if message == "kill" then
        assert.is_true(which:kill())
      else
        which:send(message)
      end
      moonlet.joinall(callers)
      local text = "dead" .. tostring(reason)
      assert.equal(("1%s 2%s 3%s"):format(text, text, text), tostring(results))
      assert.is_true(which:dead())
      assert.same({ nil, "dead" }, { which:send("x") })
      assert.same({ nil, "dead", reason or nil }, { which:call("x", 1) })
      assert.same({ true, reason or nil }, { which:wait(0) })
    end
  end)

  it("waits for the end, at most so long", function()
    local which = spawn(handyman)
    assert.is_false(which:wait(0.01))
    moonlet.spawn_later(0.01, which.send, which, "return")
    assert.same({ true, nil }, { which:wait(1) })
  end)

  it("is killed at the end of the block of a <close> variable", function()
    local kept
    do
      local which <close> = actor.spawn(handyman)
      kept = which
    end
    assert.same({ true, "killed" }, { kept:wait(0) })
    kept:close()
  end)

  it("refuses misuse", function()
    local which = spawn(handyman)
    assert.matches("bad argument #1 to 'spawn' %(function expected, got nil", support.error_of(
      actor.spawn))
    assert.matches("bad argument #1 to 'send'", support.error_of(which.send, which))
    assert.matches("bad argument #1 to 'call'", support.error_of(which.call, which))
    for _, name in ipairs { "receive", "messages", "monitor", "demonitor", "link", "unlink",
                            "spawn_link" } do
      assert.matches("'" .. name .. "' is for the actor itself",
                     support.error_of(which[name], which, which))
    end
    local selfish = spawn(function(self)
      return support.error_of(self.call, self, "x")
    end)
    assert.is_true(selfish:wait())
  end)

  it("has a name for people", function()
    local which = actor.spawn(handyman)
    which:send("return")
    assert.matches("^<Actor %d+: 1 messages>$", tostring(which))
    which:wait()
    assert.matches("^<Actor %d+: dead>$", tostring(which))
    assert.equal("<Down: x: why>", tostring(actor.Down("x", "why")))
    assert.equal("<Down: x: returned>", tostring(actor.Down("x")))
  end)

  describe("registry", function()
    it("finds actors by name until they end", function()
      local which, other = spawn(handyman), spawn(handyman)
      assert.is_true(actor.register("worker", which))
      assert.same({ nil, "taken" }, { actor.register("worker", other) })
      assert.equal(which, actor.whereis("worker"))
      assert.matches("^<Actor %d+ worker: ", tostring(which))
      which:kill()
      assert.is_nil(actor.whereis("worker"))
      assert.same({ nil, "dead" }, { actor.register("worker", which) })
      assert.is_true(actor.register("worker", other))
      actor.unregister("worker")
      assert.is_nil(actor.whereis("worker"))
      assert.matches("bad argument #1 to 'register'", support.error_of(actor.register, 1, other))
      assert.matches("bad argument #2 to 'register'", support.error_of(actor.register, "x", {}))
    end)
  end)

  describe("monitor", function()
    -- An actor that monitors others and notes the reasons.
    local function watcher(reasons)
      return spawn(function(self)
        for message, call in self:messages() do
          if call then
            self[message[1]](self, message[2])
            call:reply()
          else
            assert.is_true(message:is(actor.Down))
            table.insert(reasons, { message.actor, message.reason })
          end
        end
      end)
    end

    it("tells of the end, whatever the cause, once, and of one in the past", function()
      support.uncaught()
      local reasons = {}
      local self = watcher(reasons)
      local returns, fails, killed = actor.spawn(handyman), actor.spawn(handyman),
        actor.spawn(handyman)
      for _, which in ipairs { returns, fails, killed } do
        self:call { "monitor", which }
        self:call { "monitor", which }
      end
      returns:send("return")
      returns:wait()
      fails:send("fail")
      fails:wait()
      killed:kill()
      moonlet.sleep(0.01)
      assert.same({ { returns, nil }, { fails, "broken" }, { killed, "killed" } }, reasons)
      self:call { "monitor", killed }
      moonlet.sleep(0.01)
      assert.same({ killed, "killed" }, reasons[4])
      assert.is_nil(reasons[5])
    end)

    it("can be taken back", function()
      local reasons = {}
      local self = watcher(reasons)
      local which = actor.spawn(handyman)
      self:call { "monitor", which }
      self:call { "demonitor", which }
      self:call { "demonitor", which }
      which:kill()
      moonlet.sleep(0.01)
      assert.same({}, reasons)
    end)

    it("leaves nothing with others when it ends", function()
      local self, which = watcher {}, spawn(handyman)
      self:call { "monitor", which }
      assert.equal(1, #which._watches)
      self:kill()
      assert.equal(0, #which._watches)
    end)
  end)

  describe("link", function()
    local function linked(trap)
      local first, second
      first = spawn(function(self)
        self.trap_exits = trap
        second = self:spawn_link(handyman)
        for message in self:messages() do
          self.got = message
          if message == "unlink" then
            self:unlink(second)
          end
        end
      end)
      moonlet.sleep(0)
      moonlet.sleep(0)
      return first, keep(second)
    end

    it("ends both when one fails or is killed", function()
      support.uncaught()
      local first, second = linked()
      second:send("fail")
      assert.same({ true, "killed" }, { first:wait(1) })
      assert.same({ true, "broken" }, { second:wait(0) })
      first, second = linked()
      first:kill()
      assert.same({ true, "killed" }, { second:wait(1) })
    end)

    it("ends neither when one returns, or after unlink", function()
      local first, second = linked()
      second:send("return")
      second:wait()
      assert.is_false(first:wait(0.01))
      first, second = linked()
      first:send("unlink")
      moonlet.sleep(0.01)
      second:kill()
      assert.is_false(first:wait(0.01))
    end)

    it("is a message to who traps exits", function()
      local first, second = linked(true)
      second:kill()
      moonlet.sleep(0.01)
      assert.is_false(first:dead())
      assert.equal(second, first.got.actor)
      assert.equal("killed", first.got.reason)
    end)
  end)
end)
