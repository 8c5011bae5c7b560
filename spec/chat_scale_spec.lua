-- scripts/examples/chat on several processes, which share what is said in Redis. tests/hosts has
-- it on several hosts.

local chat = require "support.chat"
local databases = require "support.databases"
local json = require "dkjson"
local moonlet = require "moonlet"
local subprocess = require "moonlet.subprocess"
local support = require "support"
local websocket = require "moonlet.websocket"

-- Redis, and two servers with two workers each, until they are closed.
local Site = {
  __close = function(site)
    for _, server in ipairs(site.servers) do
      server:stop()
    end
    site.redis:stop()
  end,
}

local function open(opts)
  opts = opts or {}
  local site = setmetatable({ redis = databases.redis(opts), servers = {} }, Site)
  site.place = "127.0.0.1:" .. site.redis.port
  for i = 1, 2 do
    site.servers[i] = chat.serve(site.place, opts)
  end
  return site, site.servers[1], site.servers[2]
end

-- A list without what is not in another one.
local function only(list, wanted)
  local set, kept = {}, {}
  for _, value in ipairs(wanted) do
    set[value] = true
  end
  for _, value in ipairs(list) do
    if set[value] then
      table.insert(kept, value)
    end
  end
  return kept
end

local function texts(messages)
  local list = {}
  for i, message in ipairs(messages) do
    list[i] = message.text
  end
  return list
end

describe("the chat on several processes", function()
  it("brings all messages to everybody, in one order", function()
    local site <close>, one, two = open()
    local alice <close> = chat.listen("alice", "lobby", { one })
    local bob <close> = chat.listen("bob", "lobby", { two })
    local carol <close> = chat.listen("carol", "lobby", { one })
    local dave <close> = chat.listen("dave", "music", { two })
    local written, writers = {}, {}
    for i = 1, 4 do
      local name = "w" .. i
      assert.equal(200, (one:ask("GET", "/lobby/" .. name)))
      writers[i] = moonlet.spawn(function()
        for j = 1, 20 do
          local server = site.servers[j % 2 + 1]
          assert.equal(204, server:post("lobby", name, name .. "-" .. j))
          table.insert(written, name .. "-" .. j)
        end
      end)
    end
    moonlet.joinall(writers, nil, true)
    chat.await({ alice, bob, carol }, written)
    assert.equal(80, #alice.messages)
    assert.same(alice.messages, bob.messages)
    assert.same(alice.messages, carol.messages)
    assert.same({}, dave.messages)
    local _, joined = two:ask("GET", "/lobby/eve")
    assert.same({ table.unpack(alice.messages, 56) }, texts(joined.messages))
    assert.equal(0, one:stop())
  end)

  it("loses no acknowledged message when workers are killed", function()
    local site <close>, one, two = open()
    local alice <close> = chat.listen("alice", "lobby", { one, two })
    local bob <close> = chat.listen("bob", "lobby", { two, one })
    local writers = {}
    for i = 1, 3 do
      writers[i] = chat.write("w" .. i, "lobby", site.servers)
    end
    for _, server in ipairs(site.servers) do
      for _, pid in ipairs(server:workers()) do
        chat.await_writer(writers[1], 5)
        support.kill("KILL", pid)
      end
    end
    chat.await_writer(writers[1], 5)
    local acknowledged = {}
    for _, writer in ipairs(writers) do
      writer:stop()
      table.move(writer.acknowledged, 1, #writer.acknowledged, #acknowledged + 1, acknowledged)
    end
    chat.await({ alice, bob }, acknowledged)
    assert.is_true(alice.losses > 0 and bob.losses > 0)
    assert.equal(#acknowledged, #only(alice.messages, acknowledged)) -- none came twice
    assert.same(only(alice.messages, acknowledged), only(bob.messages, acknowledged))
    support.eventually(function()
      return #one:workers() == 2 and #two:workers() == 2
    end)
  end)

  it("lets who polls go from one to another, with the last message that is known", function()
    local site <close>, one = open()
    local _, joined = one:ask("GET", "/lobby/alice")
    local after, heard, expected = joined.last, {}, {}
    for i = 1, 20 do
      expected[2 * i - 1], expected[2 * i] = i .. "a", i .. "b"
      assert.equal(204, site.servers[i % 2 + 1]:post("lobby", "alice", i .. "a"))
      assert.equal(204, site.servers[i % 2 + 1]:post("lobby", "alice", i .. "b"))
      repeat
        local status, messages = site.servers[(i >> 1) % 2 + 1]:ask("POST", "/poll/alice?after=" ..
                                                                    after)
        assert.equal(200, status)
        for _, message in ipairs(messages) do
          table.insert(heard, message.text)
          after = message.id
        end
      until #heard == 2 * i
    end
    assert.same(expected, heard)
    for _, id in ipairs { "x", "", "1", "-", "1-1-1", ("9"):rep(40) .. "-1" } do
      assert.equal(204, one:post("lobby", "alice", "next"))
      assert.equal(200, (one:ask("POST", "/poll/alice?after=" .. id)))
    end
  end)

  it("knows users and who is there in all of them", function()
    local site <close>, one, two = open()
    assert.equal(200, (one:ask("GET", "/lobby/alice?key=a")))
    for _, server in ipairs(site.servers) do
      assert.equal(409, (server:ask("GET", "/lobby/alice?key=b")))
      assert.equal(409, (server:ask("POST", "/poll/alice")))
      assert.equal(409, server:post("lobby", "alice", "hi"))
      assert.equal(409, (server:ask("POST", "/leave/alice")))
      assert.equal(404, (server:ask("POST", "/poll/eve")))
      assert.equal(404, server:post("lobby", "eve", "hi"))
      assert.equal(404, (server:ask("GET", "/nowhere/alice?key=a")))
      assert.equal(400, (server:ask("GET", "/lobby/%00")))
    end
    local _, joined = two:ask("GET", "/lobby/bob")
    assert.same({ "alice", "bob" }, joined.people)
    assert.same({ { name = "lobby", people = 2 }, { name = "music", people = 0 },
                  { name = "lua", people = 0 } }, (select(2, one:ask("GET", "/alice"))))
    assert.equal(204, (two:ask("POST", "/leave/alice?key=a")))
    assert.equal(404, (one:ask("POST", "/poll/alice?key=a")))
    assert.equal(200, (one:ask("GET", "/lobby/alice?key=b")))
  end)

  it("lets nobody take what another one reads", function()
    local site <close>, one, two = open()
    local alice <close> = chat.listen("alice", "lobby", { one })
    for _ = 1, 10 do
      for _, server in ipairs(site.servers) do
        assert.equal(409, (server:ask("POST", "/poll/alice?key=eve&after=0-0")))
      end
    end
    assert.equal(200, (two:ask("GET", "/lobby/bob")))
    assert.equal(204, two:post("lobby", "bob", "hi"))
    chat.await({ alice }, { "hi" })
    assert.equal(0, alice.losses)
  end)

  it("follows who joins elsewhere while they listen", function()
    local site <close>, one, two = open()
    local alice <close> = chat.listen("alice", "lobby", { one })
    assert.equal(200, (two:ask("GET", "/music/alice?key=alice")))
    assert.equal(200, (two:ask("GET", "/music/bob")))
    assert.equal(204, two:post("music", "bob", "hi"))
    chat.await({ alice }, { "hi" })
    assert.same({ type = "join", room = "music", name = "bob" }, alice.events[1])
    assert.equal(204, (two:ask("POST", "/leave/alice?key=alice")))
    support.eventually(function()
      return alice.losses == 1
    end)
    assert.equal(2, #site.servers)
  end)

  it("lets go of those who are not heard of, also if their process is gone", function()
    local site <close>, one, two = open { expiry = 2 }
    local alice <close> = chat.listen("alice", "lobby", { one })
    local bob = chat.listen("bob", "lobby", { two })
    support.eventually(function()
      return #alice.events == 1
    end)
    bob.greenlet:kill()
    for _, pid in ipairs(two:workers()) do
      support.kill("KILL", pid)
    end
    bob:stop()
    support.eventually(function()
      return #alice.events == 2
    end)
    assert.same({ { type = "join", room = "lobby", name = "bob" },
                  { type = "leave", room = "lobby", name = "bob" } }, alice.events)
    assert.equal(0, alice.losses)
    assert.equal(2, #site.servers)
  end)

  it("says so while Redis is gone, and goes on when it is back", function()
    local site <close>, one, two = open { keeps = true }
    local alice <close> = chat.listen("alice", "lobby", { one })
    local writer = chat.write("w", "lobby", site.servers)
    chat.await_writer(writer, 10)
    site.redis.process:kill()
    site.redis.process:wait()
    for _, server in ipairs(site.servers) do
      local status, answer = server:ask("POST", "/put/lobby/w", "message=lost")
      assert.same({ 503, { error = "unavailable" } }, { status, answer })
      assert.equal(503, (server:ask("GET", "/lobby/eve")))
      assert.equal(503, (server:ask("POST", "/poll/w")))
      assert.equal(200, (server:ask("GET", "/")))
    end
    alice.ws:send('{"room": "lobby", "message": "lost too"}')
    support.eventually(function()
      return #alice.events == 2
    end)
    assert.same({ type = "error", error = "unavailable", message = "lost too" }, alice.events[2])
    site.redis:restart()
    chat.await_writer(writer, 10)
    writer:stop()
    chat.await({ alice }, writer.acknowledged)
    assert.equal(0, alice.losses)
    assert.same(writer.acknowledged, only(alice.messages, writer.acknowledged))
    assert.same({}, only(alice.messages, { "lost", "lost too" }))
    assert.equal(204, two:post("lobby", "w", "end"))
  end)

  it("does not wait for a Redis that does not answer", function()
    local site <close>, one = open()
    assert.equal(200, (one:ask("GET", "/lobby/alice")))
    site.redis.process:send_signal("SIGSTOP")
    local writers = {}
    for i = 1, 50 do -- more than there are connections
      writers[i] = moonlet.spawn(one.post, one, "lobby", "alice", "hi")
    end
    for _, writer in ipairs(moonlet.joinall(writers)) do
      assert.equal(503, writer:get())
    end
    site.redis.process:send_signal("SIGCONT")
    support.eventually(function()
      return one:post("lobby", "alice", "again") == 204
    end)
  end)

  it("lets everybody in again when Redis has forgotten all", function()
    local site <close>, one = open { expiry = 4 }
    local alice <close> = chat.listen("alice", "lobby", { one })
    site.redis.process:kill()
    site.redis.process:wait()
    site.redis:restart()
    support.eventually(function()
      local status, joined = one:ask("GET", "/lobby/bob")
      return status == 200 and joined.people[2] == "alice"
    end)
    assert.is_true(alice.losses > 0)
    assert.equal(204, one:post("lobby", "bob", "hi"))
    chat.await({ alice }, { "hi" })
    local ws <close> = assert(websocket.connect("ws://" .. one.place .. "/ws/bob"))
    ws:send('{"room": "lobby", "message": "there"}')
    repeat
      local text = assert(ws:receive(10))
    until json.decode(text).text == "there"
  end)

  it("refuses what cannot be", function()
    for _, words in ipairs { { "0", "--workers", "2" }, { "0", "--redis", "nowhere" }, { "x" },
                             { "0", "--workers" }, { "0", "--redis", "a:1", "--workers", "x" } } do
      local result = assert(subprocess.run {
        args = { support.interpreter, "scripts/examples/chat/server.lua", table.unpack(words) },
        stderr = subprocess.PIPE, timeout = 20,
      })
      assert.equal(2, result.returncode)
      assert.matches("^usage: ", result.stderr)
    end
  end)
end)
