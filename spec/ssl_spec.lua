local moonlet = require "moonlet"
local certificates = require "support.certificates"
local select = require "moonlet.select"
local socket = require "moonlet.socket"
local ssl = require "moonlet.ssl"
local support = require "support"
local tls = require "support.tls"

local MEGABYTE = 1024 * 1024

describe("moonlet.ssl", function()
  local folder, server_context, client_context

  setup(function()
    folder = certificates.folder()
    folder:root("ca")
    folder:issue("server", { names = "DNS:localhost,IP:127.0.0.1" })
    server_context = assert(ssl.newcontext(folder:params("server", "server")))
    client_context = assert(ssl.newcontext(folder:params("client")))
  end)

  teardown(function()
    folder:remove()
  end)

  -- Closed after each spec.
  local kept = {}

  local function keep(...)
    for _, object in ipairs { ... } do
      kept[#kept + 1] = object
    end
    return ...
  end

  after_each(function()
    for _, object in ipairs(kept) do
      object:close()
    end
    kept = {}
  end)

  local function socketpair()
    return keep(assert(socket.socketpair()))
  end

  -- A server's and a client's end before the handshake.
  local function wrap()
    return keep(tls.wrap(server_context, client_context, "localhost"))
  end

  -- And after it.
  local function pair()
    return keep(tls.pair(server_context, client_context, "localhost"))
  end

  -- A listener, and a greenlet that has serve(conn, peer) run for each client, whose handshake
  -- is up to it.
  local function listen(serve)
    local listener = assert(socket.bind("127.0.0.1", 0))
    local greenlet = moonlet.spawn(function()
      while true do
        local peer = listener:accept()
        if not peer then
          return
        end
        moonlet.spawn(function()
          local conn <close> = assert(ssl.wrap(peer, server_context))
          serve(conn)
        end)
      end
    end)
    local _, port = listener:getsockname()
    finally(function()
      listener:close()
      greenlet:join()
    end)
    return port
  end

  describe("wrap", function()
    it("takes the socket's place", function()
      local a, b = socketpair()
      local fd = a:getfd()
      local conn <close> = assert(ssl.wrap(a, server_context))
      assert.equal(fd, conn:getfd())
      assert.equal(-1, a:getfd())
      b:close()
    end)

    it("keeps the time limits of the socket", function()
      local a, b = socketpair()
      a:settimeout(0)
      local conn <close> = assert(ssl.wrap(a, server_context))
      assert.same({ nil, "wantread" }, { conn:dohandshake() })
      assert.equal("read", conn:want())
      b:close()
    end)

    it("takes parameters in place of a context", function()
      assert.truthy(keep(tls.pair(folder:params("server", "server"),
        folder:params("client", nil, { servername = "localhost" }))))
    end)

    it("refuses a socket that has data unread, which may be forged", function()
      local a, b = socketpair()
      assert(b:send("one\ntwo\n"))
      assert.equal("one", a:receive())
      assert.same({ nil, "unread data" }, { ssl.wrap(a, server_context) })
    end)

    it("gives away nothing that a peer sent in clear before it went", function()
      local a, b = socketpair()
      assert(b:send("forged\n"))
      b:close()
      local conn <close> = assert(ssl.wrap(a, server_context))
      local data, message, partial = conn:receive()
      assert.is_nil(data)
      assert.truthy(message:find("the peer does not speak TLS", 1, true), message)
      assert.equal("", partial)
    end)

    it("refuses a closed socket, and what is none", function()
      local a, b = assert(socket.socketpair())
      a:close()
      b:close()
      assert.same({ nil, "closed" }, { ssl.wrap(a, server_context) })
      local here = "bad argument #1 to 'wrap' "
      assert.error_matches(function() ssl.wrap(42, server_context) end, here)
      local udp <close> = socket.udp()
      local unconnected <close> = socket.tcp()
      assert.error_matches(function() ssl.wrap(udp, server_context) end,
                           here .. "%(stream of moonlet.socket expected, got udp{unconnected}")
      assert.error_matches(function() ssl.wrap(unconnected, server_context) end,
                           here .. "%(socket is not connected%)")
      assert.error_matches(function() ssl.wrap(a) end, "bad argument #2 to 'wrap'")
    end)

    it("refuses a connection that is under TLS already, which keeps its descriptor", function()
      local server = pair()
      assert.error_matches(function() ssl.wrap(server, server_context) end,
                           "under a transport already")
      assert.error_matches(function() server:setfd(-1) end, "under TLS")
      assert.error_matches(function() server:sendfile("/dev/null") end, "under TLS")
    end)
  end)

  describe("data", function()
    it("passes both ways, in all patterns of receive", function()
      local server, client = pair()
      assert.equal(15, client:send("line\r\n12345rest"))
      assert.equal("line", server:receive())
      assert.equal("123", server:receive(3))
      assert.equal("4", server:recv(1))
      assert.truthy(server:dirty())
      assert.equal("<5r", server:receive(3, "<"))
      client:close()
      assert.equal("est", server:receive("*a"))
      assert.same({ nil, "closed", "" }, { server:receive() })
      assert.same({ nil, "closed", "" }, { server:receive(0) })
    end)

    it("passes in large amounts, both ways at once", function()
      local server, client = pair()
      local data = ("0123456789abcdef"):rep(8 * MEGABYTE / 16)
      local senders = { moonlet.spawn(client.send, client, data),
                        moonlet.spawn(server.send, server, data) }
      local reader = moonlet.spawn(client.receive, client, #data)
      assert.truthy(server:receive(#data) == data)
      assert.truthy(reader:get() == data)
      for _, sender in ipairs(senders) do
        assert.equal(#data, sender:get())
      end
      local received, sent = client:getstats()
      assert.same({ #data, #data }, { received, sent })
    end)

    it("may be empty", function()
      local server, client = pair()
      assert.equal(0, client:send(""))
      assert.equal(2, client:send("abc", 2, 2))
      assert.equal("b", server:receive(1))
    end)

    it("is sent in parts as far as the peer takes it", function()
      local server, client = pair()
      local data = ("x"):rep(MEGABYTE) .. ("y"):rep(8 * MEGABYTE)
      client:settimeout(0.02, "t")
      local sent, reader = 0, nil
      while sent < #data do
        local ok, message, last = client:send(data, sent + 1)
        sent = ok or last
        if not ok then
          assert.equal("timeout", message)
          reader = reader or moonlet.spawn(server.receive, server, #data)
        end
      end
      assert.truthy(reader and reader:get() == data)
    end)

    it("may be sent by another greenlet after one was killed in its midst", function()
      local server, client = pair()
      local sender = moonlet.spawn(client.send, client, ("x"):rep(4 * MEGABYTE))
      support.turns()
      sender:kill()
      local other = moonlet.spawn(client.send, client, ("y"):rep(100000) .. "\n")
      local line = server:receive()
      assert.equal(100001, other:get())
      local x, y = line:match("^(x*)(y*)$")
      assert.equal(100000, #y)
      assert.truthy(#x < 4 * MEGABYTE)
    end)
  end)

  describe("the end", function()
    it("of one direction leaves the other", function()
      local server, client = pair()
      assert(client:send("question"))
      assert.equal(1, client:shutdown("send"))
      assert.equal("question", server:receive("*a"))
      assert(server:send("answer"))
      assert.equal("answer", client:receive(6))
    end)

    it("that the peer did not announce is not taken for that of the data", function()
      local server, client = pair()
      assert(server:send("partial"))
      local plain = socket.tcp()
      plain:setfd(server:getfd())
      assert(plain:shutdown())
      plain:setfd(-1)
      assert.same({ nil, "closed", "partial" }, { client:receive("*a") })
    end)

    it("tells a greenlet that reads when another closes", function()
      local server, client = pair()
      local reader = moonlet.spawn(client.receive, client)
      support.turns()
      client:close()
      client:close()
      assert.same({ nil, "closed", "" }, { reader:get() })
      assert.same({ nil, "closed", "" }, { server:receive() })
      assert.same({ nil, "closed" }, { client:dohandshake() })
      assert.equal(-1, client:getfd())
      assert.truthy(tostring(client):find("closed", 1, true))
    end)

    it("comes with the garbage collector too", function()
      local server = tls.pair(server_context, client_context, "localhost")
      keep(server):settimeout(0)
      support.eventually(function()
        collectgarbage()
        local _, message = server:receive()
        return message == "closed"
      end)
    end)

    it("of a peer that is gone does not kill the program", function()
      local server, client = pair()
      server:close()
      local ok, message
      repeat
        ok, message = client:send(("x"):rep(MEGABYTE))
      until not ok
      assert.equal("closed", message)
    end)
  end)

  describe("waiting", function()
    it("is none with a timeout of 0, which tells what is wanted", function()
      local server, client = wrap()
      client:settimeout(0)
      server:settimeout(0)
      assert.same({ nil, "wantread" }, { client:dohandshake() })
      assert.same({ nil, "wantread" }, { server:dohandshake() })
      assert.equal("read", server:want())
      local done_client, done_server
      repeat
        done_client = done_client or client:dohandshake()
        done_server = done_server or server:dohandshake()
      until done_client and done_server
      assert.same({ nil, "wantread", "" }, { client:receive() })
      assert.same({ nil, "wantread" }, { client:recv() })
      local ok, message = client:send(("x"):rep(8 * MEGABYTE))
      assert.same({ nil, "wantwrite" }, { ok, message })
      assert.equal("write", client:want())
    end)

    it("ends at the timeout, and the connection stays of use", function()
      local server, client = pair()
      client:settimeout(0.01)
      assert.same({ nil, "timeout", "" }, { client:receive() })
      assert(server:send("part"))
      assert.same({ nil, "timeout", "part" }, { client:receive() })
      assert(server:send("line\n"))
      assert.equal("line", client:receive())
    end)

    it("of a handshake is bounded as a whole by the mode 't'", function()
      local a, b = socketpair()
      local conn <close> = assert(ssl.wrap(a, server_context))
      conn:settimeout(0.1, "t")
      local drip = moonlet.spawn(function()
        for char in ("\22\3\1\2\0\1\0\1\252\3\3" .. ("x"):rep(1000)):gmatch(".") do
          if not b:send(char) then
            return
          end
          moonlet.sleep(0.005)
        end
      end)
      assert.same({ nil, "timeout" }, { conn:dohandshake() })
      drip:kill()
    end)

    it("of a handshake goes on after a timeout", function()
      local server, client = wrap()
      client:settimeout(0.01)
      assert.same({ nil, "timeout" }, { client:dohandshake() })
      client:settimeout(nil)
      local of_server, of_client = tls.handshake(server, client)
      assert.same({ true, true }, { of_server[1], of_client[1] })
    end)

    for _, name in ipairs { "dohandshake", "receive", "send" } do
      it("in " .. name .. " ends by a kill and by a Timeout", function()
        local server, client = wrap()
        if name ~= "dohandshake" then
          tls.handshake(server, client)
        end
        local argument = name == "send" and ("x"):rep(8 * MEGABYTE) or nil
        local greenlet = moonlet.spawn(client[name], client, argument)
        support.turns()
        greenlet:kill()
        assert.truthy(greenlet.value:is(moonlet.GreenletExit))
        assert.same({ n = 2, nil, "timeout" },
                    table.pack(moonlet.with_timeout(0.01, client[name], client, argument)))
        if name ~= "send" then
          client:settimeout(5)
          if name == "dohandshake" then
            local of_server, of_client = tls.handshake(server, client)
            assert.same({ true, true }, { of_server[1], of_client[1] })
          end
          assert(server:send("still here\n"))
          assert.equal("still here", client:receive())
        end
      end)
    end

    it("is refused to a second reader", function()
      local server, client = pair()
      local reader = moonlet.spawn(client.receive, client)
      support.turns()
      assert.error_matches(function() client:receive() end, "already used by another greenlet")
      assert(server:send("x\n"))
      assert.equal("x", reader:get())
    end)

    it("is for the direction that TLS needs, not that of the call", function()
      local server, client = wrap()
      -- A receive before the handshake has to write first.
      local reader = moonlet.spawn(client.receive, client)
      -- A send before the handshake has to read first.
      assert.equal(3, server:send("hi\n"))
      assert.equal("hi", reader:get())
    end)

    it("sees data that the kernel has handed over already", function()
      local server, client = pair()
      assert(server:send(("x"):rep(100)))
      assert.equal("x", client:receive(1))
      assert.truthy(client:dirty())
      assert.same({ client }, (select.select({ client }, nil, nil, 5)))
      assert.equal(99, #client:receive(99))
      assert.falsy(client:dirty())
    end)
  end)

  describe("a server", function()
    it("serves others while one client is slow with its handshake", function()
      local port = listen(function(conn)
        if conn:dohandshake() then
          conn:send("welcome\n")
        end
      end)
      local slow <close> = assert(socket.connect("127.0.0.1", port))
      local conn <close> = assert(ssl.connect("127.0.0.1", port, client_context, 5))
      assert.equal("welcome", conn:receive())
      assert(slow)
    end)

    it("drops a client that speaks no TLS, and lives", function()
      local messages = {}
      local port = listen(function(conn)
        local ok, message = conn:dohandshake()
        if not ok then
          messages[#messages + 1] = message
        else
          conn:send("welcome\n")
        end
      end)
      for _, text in ipairs { "GET / HTTP/1.0\r\n\r\n", "EHLO somebody\r\n" } do
        local plain <close> = assert(socket.connect("127.0.0.1", port))
        assert(plain:send(text))
        repeat
          local _, message = plain:receive()
        until message == "closed"
      end
      assert.equal("the peer speaks plain HTTP: http request", messages[1])
      assert.equal("the peer does not speak TLS: wrong version number", messages[2])
      local conn <close> = assert(ssl.connect("localhost", port, client_context, 5))
      assert.equal("welcome", conn:receive())
    end)
  end)

  describe("connect", function()
    it("verifies the name it was given", function()
      local port = listen(function(conn)
        conn:dohandshake()
        conn:send((conn:getsniname() or "no name") .. "\n")
      end)
      local params = { cafile = folder:file("ca.pem") }
      for host, sent in pairs { localhost = "localhost", ["127.0.0.1"] = "no name" } do
        local conn <close> = assert(ssl.connect(host, port, params, 5))
        assert.equal(sent, conn:receive())
      end
      params.servername = "elsewhere"
      local conn, message = ssl.connect("localhost", port, params, 5)
      assert.is_nil(conn)
      assert.truthy(message:find("not for 'elsewhere' but for localhost, 127.0.0.1", 1, true))
    end)

    it("is bounded as a whole", function()
      local listener <close> = assert(socket.bind("127.0.0.1", 0))
      local _, port = listener:getsockname()
      assert.same({ nil, "timeout" }, { ssl.connect("localhost", port, client_context, 0.02) })
      local limit <close> = moonlet.Timeout.start_new(0.02)
      assert.equal(limit, support.error_of(ssl.connect, "localhost", port, client_context, limit))
    end)

    it("tells why there is no connection", function()
      local listener = assert(socket.bind("127.0.0.1", 0))
      local _, port = listener:getsockname()
      listener:close()
      local conn, message = ssl.connect("127.0.0.1", port)
      assert.same({ nil, "connection refused" }, { conn, message })
    end)
  end)
end)
