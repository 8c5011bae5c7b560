-- scripts/examples/chat: its server. The page is tested in a browser, by tests/browser.

package.path = "scripts/examples/chat/?.lua;" .. package.path

local app = require "app"
local example = require "support.example"
local http = require "moonlet.http"
local json = require "dkjson"
local moonlet = require "moonlet"
local support = require "support"
local websocket = require "moonlet.websocket"
local wsapi = require "moonlet.wsapi"

local WAIT = 0.2 -- seconds that a poll waits

describe("the chat", function()
  local chat, server, client

  -- For this spec.
  local function serve()
    chat = app.new { rooms = { "topic1", "topic2" }, folder = "scripts/examples/chat/page/",
                     poll_timeout = WAIT }
    server = wsapi.WSAPIServer({ "127.0.0.1", 0 }, chat, { log = false })
    assert(server:start())
    client = http.Client { proxy = false, timeout = 10 }
    finally(function()
      client:close()
      server:stop(0)
    end)
  end

  -- The status of an answer, and what it says.
  local function ask(method, path, body)
    local response = assert(client:request {
      url = ("http://127.0.0.1:%d%s"):format(server.address[2], path), method = method, body = body,
      headers = body and { ["Content-Type"] = "application/x-www-form-urlencoded" } or nil,
    })
    local text = assert(response:body())
    return response.status, text ~= "" and json.decode(text) or nil
  end

  local function join(room, user)
    local status, answer = ask("GET", "/" .. room .. "/" .. user)
    assert.equal(200, status)
    return answer
  end

  local function post(room, user, text)
    assert.equal(204, (ask("POST", "/put/" .. room .. "/" .. user, "message=" .. text)))
  end

  local function texts(messages)
    local list = {}
    for i, message in ipairs(messages) do
      list[i] = message.from .. ":" .. message.text
    end
    return list
  end

  local function poll(user)
    local status, messages = ask("POST", "/poll/" .. user)
    assert.equal(200, status)
    return messages
  end

  -- Greenlets that poll, and do so now.
  local function polling(...)
    local list = {}
    for i, user in ipairs { ... } do
      list[i] = moonlet.spawn(poll, user)
      support.eventually(function()
        return chat.chat.users[user:match("^[^?]*")].readers > 0
      end)
    end
    return table.unpack(list)
  end

  describe("by polls", function()
    it("brings a message to all in the room, the one who wrote it too", function()
      serve()
      assert.same({}, join("topic1", "alice").messages)
      assert.same({ "alice", "bob" }, join("topic1", "bob").people)
      join("topic2", "carol")
      local alice, bob, carol = polling("alice", "bob", "carol")
      post("topic1", "alice", "hi")
      assert.same({ "alice:hi" }, texts(alice:get()))
      assert.same({ "alice:hi" }, texts(bob:get()))
      assert.same({}, carol:get())
      assert.same({ "alice:hi" }, texts(join("topic1", "dave").messages))
    end)

    it("keeps for the next poll what is said between two", function()
      serve()
      join("topic1", "alice")
      join("topic2", "alice")
      post("topic1", "alice", "one")
      post("topic2", "alice", "two")
      assert.same({ "alice:one", "alice:two" }, texts(poll("alice")))
      assert.same({}, poll("alice"))
    end)

    it("delivers once to who has joined twice", function()
      serve()
      join("topic1", "alice")
      assert.same({ "alice" }, join("topic1", "alice").people)
      post("topic1", "alice", "hi")
      assert.same({ "alice:hi" }, texts(poll("alice")))
      assert.same({}, poll("alice"))
    end)

    it("remembers the last 25 messages, in order", function()
      serve()
      join("topic1", "alice")
      local expected = {}
      for i = 1, 30 do
        post("topic1", "alice", i)
        expected[i - 5] = i > 5 and "alice:" .. i or nil
      end
      assert.same(expected, texts(join("topic1", "bob").messages))
    end)

    it("ends a poll when the same user polls again, and loses nothing", function()
      serve()
      join("topic1", "alice")
      local first, second = polling("alice", "alice")
      assert.same({}, first:get())
      post("topic1", "alice", "hi")
      assert.same({ "alice:hi" }, texts(second:get()))
    end)

    it("goes on after users and rooms that are not there", function()
      serve()
      for _, path in ipairs { "/poll/eve", "/put/topic1/eve", "/put/topic3/eve", "/leave/eve" } do
        local status, answer = ask("POST", path, "message=hi")
        assert.same({ 404, { error = "unknown user" } }, { status, answer })
      end
      join("topic1", "alice")
      local status, answer = ask("GET", "/topic3/alice")
      assert.same({ 404, { error = "unknown room" } }, { status, answer })
      assert.equal(404, (ask("POST", "/put/topic3/alice", "message=hi")))
      assert.equal(404, (ask("GET", "/a/b/c")))
      assert.equal(404, (ask("GET", "/page/..%2Fapp.lua")))
      assert.equal(405, (ask("GET", "/poll/alice")))
      assert.equal(405, (ask("POST", "/alice", "")))
      assert.same({ 200, { { name = "topic1", people = 1 }, { name = "topic2", people = 0 } } },
                  { ask("GET", "/alice") })
    end)

    it("refuses names and messages that nobody could read", function()
      serve()
      for _, name in ipairs { "%00", "a%0Ab", "%FF", "%20", "%2E%2E", ("x"):rep(25) } do
        local status, answer = ask("GET", "/topic1/" .. name)
        assert.same({ 400, { error = "bad name" } }, { status, answer })
      end
      assert.same({ "J\u{F6}rg <b>&\"'" }, join("topic1", "J%C3%B6rg%20%3Cb%3E&\"'").people)
      join("topic1", "alice")
      for _, form in ipairs { "", "text=hi", "message=", "message=+%0A", "message=%00",
                              "message=%FF", "message=" .. ("x"):rep(2001) } do
        local status, answer = ask("POST", "/put/topic1/alice", form)
        assert.same({ 400, { error = "bad message" } }, { status, answer })
      end
      post("topic1", "alice", "a=b%26c+%2B%0A%3Ci%3E")
      assert.same({ "alice:a=b&c +\n<i>" }, texts(poll("alice")))
    end)

    it("gives a name to one alone who has a key, and tells who comes and goes", function()
      serve()
      join("topic1", "alice?key=a")
      for _, query in ipairs { "", "?key=b" } do
        assert.equal(409, (ask("GET", "/topic1/alice" .. query)))
        assert.equal(409, (ask("POST", "/poll/alice" .. query)))
        assert.equal(409, (ask("POST", "/put/topic1/alice" .. query, "message=hi")))
        assert.equal(409, (ask("POST", "/leave/alice" .. query)))
      end
      join("topic1", "bob")
      assert.equal(204, (ask("POST", "/leave/bob")))
      assert.same({ { type = "join", room = "topic1", name = "bob" },
                    { type = "leave", room = "topic1", name = "bob" } }, poll("alice?key=a"))
      local waiting = polling("alice?key=a")
      assert.equal(204, (ask("POST", "/leave/alice?key=a")))
      assert.same({}, waiting:get())
      assert.same({ "alice" }, join("topic1", "alice?key=b").people)
    end)

    it("lets go of those who were not seen for long", function()
      serve()
      join("topic1", "alice")
      join("topic1", "bob")
      local waiting = polling("alice")
      chat.chat:expire(-1)
      assert.same({ "alice" }, chat.chat.rooms.topic1:people())
      assert.same({}, waiting:get())
      chat.chat:expire(60)
      assert.same({ "alice" }, chat.chat.rooms.topic1:people())
      chat.chat:expire(-1)
      assert.same({}, chat.chat.rooms.topic1:people())
    end)

    it("keeps a thousand events for who does not poll", function()
      serve()
      join("topic1", "alice")
      local alice = chat.chat.users.alice
      for i = 1, 1500 do
        assert(chat.chat:post("topic1", alice, tostring(i)))
      end
      local messages = poll("alice")
      assert.equal(1000, #messages)
      assert.same({ "501", "1500" }, { messages[1].text, messages[1000].text })
    end)
  end)

  describe("by WebSockets", function()
    local function connect(user)
      return websocket.connect(("ws://127.0.0.1:%d/ws/%s"):format(server.address[2], user))
    end

    local function receive(ws)
      local text = assert(ws:receive(10))
      return (json.decode(text))
    end

    it("brings what polls would, and takes messages", function()
      serve()
      join("topic1", "alice?key=a")
      join("topic1", "bob")
      local ws <close> = assert(connect("alice?key=a"))
      assert.same({ type = "join", room = "topic1", name = "bob" }, receive(ws))
      post("topic1", "bob", "hello")
      assert.equal("hello", receive(ws).text)
      for _, text in ipairs { "{", "1", "null", "[]", '{"room": {}, "message": 1}',
                              '{"room": "topic3", "message": "hi"}' } do
        ws:send(text)
        assert.equal("error", receive(ws).type)
      end
      ws:send('{"room": "topic1", "message": "hi"}')
      assert.same({ "alice:hi" }, texts { receive(ws) })
      assert.same({ "bob:hello", "alice:hi" }, texts(poll("bob")))
    end)

    it("is for those who have joined", function()
      serve()
      join("topic1", "alice?key=a")
      local _, _, status = connect("eve")
      assert.equal(404, status)
      _, _, status = connect("alice")
      assert.equal(409, status)
      assert.equal(426, (ask("GET", "/ws/alice?key=a")))
    end)

    it("ends when another one begins, or the user leaves", function()
      serve()
      join("topic1", "alice")
      local first <close> = assert(connect("alice"))
      local second <close> = assert(connect("alice"))
      assert.same({ nil, "closed", 1000 }, { table.unpack({ first:receive(10) }, 1, 3) })
      post("topic1", "alice", "hi")
      assert.equal("hi", receive(second).text)
      chat.chat:expire(-1)
      assert.same({ "alice" }, chat.chat.rooms.topic1:people())
      assert.equal(204, (ask("POST", "/leave/alice")))
      assert.same({ nil, "closed", 1000 }, { table.unpack({ second:receive(10) }, 1, 3) })
    end)

    it("leaves nothing behind when the client vanishes", function()
      serve()
      join("topic1", "alice")
      local ws = assert(connect("alice"))
      support.eventually(function()
        return chat.chat.users.alice.readers == 1
      end)
      ws._stream:close()
      support.eventually(function()
        return chat.chat.users.alice.readers == 0
      end)
    end)
  end)

  it("has a page that runs nothing but its own files", function()
    serve()
    for path, kind in pairs { ["/"] = "text/html", ["/page/chat.css"] = "text/css",
                              ["/page/chat.js"] = "text/javascript",
                              ["/page/icon.svg"] = "image/svg" } do
      local response = client:request { url = ("http://127.0.0.1:%d%s")
                                        :format(server.address[2], path) }
      assert.equal(200, response.status)
      assert.equal(kind, response.headers["content-type"]:match("^[%a/]+"))
      assert.matches("^default%-src 'none'", response.headers["content-security-policy"])
      assert.is_nil(response:body():find("https?://[^w]")) -- nothing from elsewhere
    end
  end)

  it("is a program", function()
    local program <close> = example.serve("chat/server.lua", "0")
    local response, body = program:request("/")
    assert.equal(200, response.status)
    assert.matches("<title>Moonlet chat</title>", body)
    local waiting = moonlet.spawn(program.request, program, "/poll/nobody", { method = "POST" })
    assert.equal(404, waiting:get().status)
    assert.equal(0, program:stop())
  end)
end)
