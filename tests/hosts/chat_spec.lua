-- The chat on two hosts that know nothing of each other, with Redis on a third one: see `run`.

local chat = require "support.chat"
local databases = require "support.databases"
local moonlet = require "moonlet"
local subprocess = require "moonlet.subprocess"
local support = require "support"

local EXPIRY = 4 -- seconds; half of it without a word of Redis, and a server connects anew

local function ip(...)
  assert(subprocess.check_call { args = { "ip", ... } })
end

describe("the chat on two hosts", function()
  local redis, a, b

  -- For this spec.
  local function serve()
    redis = databases.redis { bind = "0.0.0.0", keeps = true }
    local function on(name, number)
      return chat.serve(("10.77.%d.1:%d"):format(number, redis.port), {
        command = { "ip", "netns", "exec", name }, host = ("10.77.%d.2"):format(number),
        expiry = EXPIRY,
      })
    end
    a, b = on("a", 1), on("b", 2)
    finally(function()
      a:stop()
      b:stop()
      redis:stop()
    end)
  end

  it("is one chat", function()
    serve()
    local alice <close> = chat.listen("alice", "lobby", { a })
    local bob <close> = chat.listen("bob", "lobby", { b })
    local writer <close> = chat.write("w", "lobby", { a, b })
    chat.await_writer(writer, 50)
    writer:stop()
    chat.await({ alice, bob }, writer.acknowledged)
    assert.same(alice.messages, bob.messages)
  end)

  it("loses no acknowledged message when workers of one host are killed", function()
    serve()
    local alice <close> = chat.listen("alice", "lobby", { a, b })
    local writer <close> = chat.write("w", "lobby", { a, b })
    for _, pid in ipairs(a:workers()) do
      chat.await_writer(writer, 10)
      support.kill("KILL", pid)
    end
    chat.await_writer(writer, 10)
    writer:stop()
    chat.await({ alice }, writer.acknowledged)
    assert.is_true(alice.losses > 0)
  end)

  it("brings what was said meanwhile to a host that was cut off", function()
    serve()
    local alice <close> = chat.listen("alice", "lobby", { a })
    local bob <close> = chat.listen("bob", "lobby", { b })
    local writer <close> = chat.write("w", "lobby", { a })
    chat.await({ bob }, { "w1" })
    ip("link", "set", "to_b", "down")
    moonlet.sleep(EXPIRY * 0.75)
    assert.is_true(#bob.messages < #writer.acknowledged)
    ip("link", "set", "to_b", "up")
    chat.await_writer(writer, 20)
    writer:stop()
    chat.await({ alice, bob }, writer.acknowledged)
    assert.equal(0, alice.losses)
    assert.same(alice.messages, bob.messages)
  end)

  it("sends who was on a host that is gone to the other one", function()
    serve()
    local bob <close> = chat.listen("bob", "lobby", { b, a })
    local writer <close> = chat.write("w", "lobby", { a })
    chat.await({ bob }, { "w1" })
    b.process:send_signal("SIGKILL") -- its workers end with it
    support.eventually(function()
      return bob.losses == 1
    end)
    chat.await_writer(writer, 20)
    writer:stop()
    chat.await({ bob }, writer.acknowledged)
  end)
end)
