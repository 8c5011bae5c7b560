local moonlet = require "moonlet"
local socket = require "moonlet.socket"
local sockets = require "support.sockets"
local support = require "support"

describe("moonlet.socket, TCP:", function()
  sockets.watch_descriptors(before_each, after_each)

  describe("a new socket", function()
    it("has no descriptor and no family until it needs one", function()
      local sock <close> = socket.tcp()
      assert.equal(-1, sock:getfd())
      assert.equal("unspec", sock:getfamily())
      assert.same({ nil, "closed" }, { sock:getsockname() })
      assert.equal(1, sock:bind("127.0.0.1", 0))
      assert.equal("inet", sock:getfamily())
      assert.is_true(sock:getfd() >= 0)
    end)

    it("of IPv4 or IPv6 has both at once", function()
      for maker, family in pairs { tcp4 = "inet", tcp6 = "inet6", udp4 = "inet", udp6 = "inet6" } do
        local sock <close> = socket[maker]()
        assert.equal(family, sock:getfamily())
        assert.is_true(sock:getfd() >= 0)
      end
    end)

    it("for IPv6 leaves IPv4 to others, as LuaSocket's", function()
      for _, maker in ipairs { "tcp6", "udp6" } do
        local sock <close> = socket[maker]()
        assert.is_true(sock:getoption("ipv6-v6only"))
      end
    end)

    it("neither receives nor sends nor accepts", function()
      local sock <close> = socket.tcp()
      for _, call in ipairs { sock.receive, sock.send, sock.accept, sock.sendfile } do
        assert.matches("socket", support.error_of(call, sock, "x"))
      end
    end)
  end)

  describe("names", function()
    it("are host, port and family", function()
      local server <close>, port = sockets.listen()
      local near <close> = socket.connect("127.0.0.1", port)
      local far <close> = server:accept()
      assert.same({ "127.0.0.1", port, "inet" }, { near:getpeername() })
      assert.same({ near:getsockname() }, { far:getpeername() })
      assert.same({ nil, "Transport endpoint is not connected", 107 }, { server:getpeername() })
    end)

    it("are IPv6 addresses where that is spoken", function()
      local server <close> = assert(socket.bind("::1", 0))
      local host, port, family = server:getsockname()
      assert.same({ "::1", "inet6" }, { host, family })
      local near <close> = assert(socket.connect6("::1", port))
      assert.same({ "::1", port, "inet6" }, { near:getpeername() })
    end)

    it("are gone when it is closed", function()
      local near, far <close> = sockets.pair()
      near:close()
      assert.same({ nil, "closed" }, { near:getpeername() })
      assert.same({ nil, "closed" }, { near:getsockname() })
      assert.equal(-1, near:getfd())
      assert.truthy(far:getpeername())
    end)
  end)

  describe("socket.bind", function()
    it("listens on an address, on all of IPv4, or on those of a name", function()
      for host, name in pairs { ["127.0.0.1"] = "127.0.0.1", ["*"] = "0.0.0.0", ["::"] = "::" } do
        local server <close> = assert(socket.bind(host, 0))
        assert.equal(name, (server:getsockname()))
        assert.is_true(server:getoption("reuseaddr"))
      end
      local server <close> = assert(socket.bind("localhost", 0))
      assert.equal("tcp{server}", server.class)
    end)

    it("says that the address is in use", function()
      local server <close>, port = sockets.listen()
      assert.equal("127.0.0.1", (server:getsockname()))
      assert.same({ nil, "address already in use", 98 }, { socket.bind("127.0.0.1", port) })
    end)

    it("lets IPv4 and IPv6 have the same port each", function()
      local four <close> = assert(socket.bind("*", 0))
      local _, port = four:getsockname()
      local six <close> = assert(socket.bind("::", port))
      assert.equal(port, (select(2, six:getsockname())))
    end)
  end)

  describe("accept", function()
    it("waits for a client, and blocks only its greenlet", function()
      local server <close>, port = sockets.listen()
      local seen = support.trace()
      local acceptor = sockets.start(function()
        local client <close> = server:accept()
        seen("accepted")
        assert.equal("tcp{client}", client.class)
      end)
      seen("others ran")
      local near <close> = socket.connect("127.0.0.1", port)
      acceptor:join()
      assert.equal("others ran accepted", tostring(seen))
      assert.equal(0, (near:getstats()))
    end)

    it("takes clients in the order in which they came", function()
      local server <close>, port = sockets.listen()
      local clients = {}
      for i = 1, 5 do
        clients[i] = socket.connect("127.0.0.1", port)
      end
      for i = 1, 5 do
        local far <close> = server:accept()
        assert.same({ clients[i]:getsockname() }, { far:getpeername() })
        clients[i]:close()
      end
    end)

    it("takes those who have come, and then waits for the next", function()
      local server <close>, port = sockets.listen()
      server:settimeout(0)
      for count = 0, 3 do
        local clients = {}
        for i = 1, count do
          clients[i] = socket.connect("127.0.0.1", port)
        end
        for i = 1, count do
          assert(server:accept()):close()
          clients[i]:close()
        end
        assert.same({ nil, "timeout" }, { server:accept() })
      end
    end)

    it("returns nil, 'timeout' when nobody comes", function()
      local server <close> = sockets.listen()
      for _, seconds in ipairs { 0, 0.01 } do
        server:settimeout(seconds)
        assert.same({ nil, "timeout" }, { server:accept() })
      end
    end)

    it("returns nil, 'closed' in a later turn when another greenlet closes the server", function()
      local server = sockets.listen()
      local seen = support.trace()
      local acceptor = sockets.start(function()
        local client, message = server:accept()
        seen(client, message)
      end)
      assert.equal(1, server:close())
      seen("closed it")
      acceptor:join()
      assert.equal("closed it nil closed", tostring(seen))
      assert.same({ nil, "closed" }, { server:accept() })
    end)

    it("is for servers", function()
      local near, far, _ <close> = sockets.pair()
      for _, sock in ipairs { near, far } do
        assert.matches("does not listen", support.error_of(sock.accept, sock))
      end
    end)
  end)

  describe("close", function()
    it("may be called again, and returns 1 each time", function()
      local near, far = sockets.pair()
      for _ = 1, 3 do
        assert.equal(1, near:close())
      end
      assert.same({ nil, "closed", "" }, { far:receive() })
      assert.equal(1, far:close())
    end)

    it("is what a `<close>` variable and the collector do", function()
      local near, far <close> = sockets.pair()
      do
        local _ <close> = near
      end
      assert.equal(-1, near:getfd())
      local before = sockets.count_descriptors()
      do
        local _, _ = sockets.pair()
      end
      collectgarbage()
      collectgarbage()
      assert.equal(before, sockets.count_descriptors())
      assert.same({ nil, "closed", "" }, { far:receive() })
    end)

    it("makes all calls return nil, 'closed'", function()
      local near, far <close> = sockets.pair()
      near:close()
      assert.same({ nil, "closed", "" }, { near:receive() })
      assert.same({ nil, "closed", 0 }, { near:send("x") })
      assert.same({ nil, "closed" }, { near:shutdown() })
      assert.same({ nil, "closed" }, { near:setoption("keepalive", true) })
      assert.same({ nil, "closed" }, { near:getoption("keepalive") })
      assert.same({ nil, "closed" }, { near:connect("127.0.0.1", 1) })
      assert.same({ nil, "closed" }, { near:bind("127.0.0.1", 1) })
      assert.same({ nil, "closed" }, { near:listen() })
      assert.equal(1, near:settimeout(1))
      assert.is_false(near:dirty())
      assert.truthy(far:getfd() >= 0)
    end)

    it("leaves what was received and not asked for, as LuaSocket does", function()
      local near, far <close> = sockets.pair()
      assert(far:send("one\ntwo\nthree"))
      assert.equal("one", near:receive())
      near:close()
      assert.is_true(near:dirty())
      assert.equal("two", near:receive())
      assert.same({ nil, "closed", "three" }, { near:receive() })
    end)
  end)

  describe("shutdown", function()
    it("ends one direction", function()
      local near, far, _ <close> = sockets.pair()
      assert.equal(1, near:shutdown("send"))
      assert.same({ nil, "closed", "" }, { far:receive() })
      assert.same({ nil, "closed", 0 }, { near:send("x") })
      assert(far:send("still\n"))
      assert.equal("still", near:receive())
      assert.equal(1, near:shutdown("receive"))
      assert.same({ nil, "closed", "" }, { near:receive() })
    end)

    it("ends both without a word, or with 'both'", function()
      for _, how in ipairs { false, "both" } do
        local near, far, _ <close> = sockets.pair()
        assert.equal(1, near:shutdown(how or nil))
        assert.same({ nil, "closed", "" }, { near:receive() })
        assert.same({ nil, "closed", 0 }, { near:send("x") })
        assert.same({ nil, "closed", "" }, { far:receive() })
      end
    end)

    it("wakes who waits on that side", function()
      local near, far, _ <close> = sockets.pair()
      sockets.fill(near)
      local results = {}
      local reader = sockets.start(function()
        results.read = { near:receive() }
      end)
      local writer = sockets.start(function()
        results.write = { near:send("x") }
      end)
      near:shutdown("receive")
      reader:join()
      assert.same({ nil, "closed", "" }, results.read)
      assert.is_false(writer:ready())
      near:shutdown("send")
      writer:join()
      assert.same({ nil, "closed", 0 }, results.write)
      assert(far)
    end)

    it("refuses another word, and a socket that has no peer", function()
      local near, far, _ <close> = sockets.pair()
      assert.matches("bad argument #1 to 'shutdown'", support.error_of(function()
        near:shutdown("all")
      end))
      local sock <close> = socket.tcp4()
      assert.same({ nil, "Transport endpoint is not connected", 107 }, { sock:shutdown() })
      assert(far)
    end)
  end)

  describe("time limits", function()
    it("are none at first, and returned by gettimeout", function()
      local sock <close> = socket.tcp()
      assert.same({ -1, -1 }, { sock:gettimeout() })
      assert.equal(1, sock:settimeout(2))
      assert.equal(1, sock:settimeout(3, "t"))
      assert.same({ 2, 3 }, { sock:gettimeout() })
      sock:settimeout(4, "r")
      sock:settimeout(-5)
      assert.same({ -1, 4 }, { sock:gettimeout() })
      sock:settimeout(nil, "t")
      assert.same({ -1, -1 }, { sock:gettimeout() })
    end)

    it("refuse what is no number, and other modes", function()
      local sock <close> = socket.tcp()
      local function refused(number, ...)
        assert.matches("bad argument #" .. number .. " to 'settimeout'",
                       support.error_of(function(...) sock:settimeout(...) end, ...))
      end
      refused(1, "soon")
      refused(1, 0 / 0)
      refused(2, 1, "x")
      refused(2, 1, "")
      refused(2, 1, {})
    end)

    it("of a whole call hold although bytes arrive, those of each wait begin again", function()
      local near, far, _ <close> = sockets.pair()
      local feeder = moonlet.spawn(function()
        for _ = 1, 8 do
          moonlet.sleep(0.02)
          far:send("x")
        end
      end)
      near:settimeout(0.09, "t")
      local data, message, partial = near:receive(8)
      assert.same({ nil, "timeout" }, { data, message })
      assert.is_true(#partial >= 1 and #partial < 8, #partial)
      near:settimeout(nil, "t")
      near:settimeout(5, "b")
      assert.equal(8, #near:receive(8, partial))
      feeder:join()
    end)

    it("run out in the order in which they are due", function()
      local seen, list, pairs = support.trace(), {}, {}
      for i = 1, 3 do
        pairs[i] = sockets.closing(sockets.pair())
      end
      for i, seconds in ipairs { 0.03, 0.01, 0.02 } do
        list[i] = moonlet.spawn(function()
          local _ <close> = pairs[i]
          local near = pairs[i][1]
          near:settimeout(seconds)
          local _, message = near:receive()
          seen(i, message)
        end)
      end
      moonlet.joinall(list)
      assert.equal("2 timeout 3 timeout 1 timeout", tostring(seen))
    end)
  end)

  describe("tostring", function()
    it("says what it is and in which state", function()
      local near, far = sockets.pair()
      assert.matches("^tcp{client}: 0x%x+$", tostring(near))
      near:close()
      assert.matches("^tcp{client}: 0x%x+ %(closed%)$", tostring(near))
      local sock <close> = socket.tcp()
      assert.matches("^tcp{master}", tostring(sock))
      local server <close> = sockets.listen()
      assert.matches("^tcp{server}", tostring(server))
      far:close()
    end)
  end)

  describe("methods", function()
    it("refuse objects of other classes", function()
      local udp <close> = socket.udp()
      local tcp <close> = socket.tcp()
      for name, object in pairs { receive = udp, send = udp, accept = udp, connect = udp,
                                  dirty = udp, setfd = {}, settimeout = 1, close = "x" } do
        assert.matches("bad argument #1 to", support.error_of(tcp[name], object, "x"))
      end
      for _, object in ipairs { {}, 1, io.stdout, moonlet.getcurrent() } do
        assert.matches("bad argument #1 to", support.error_of(tcp.receive, object))
        assert.matches("bad argument #1 to", support.error_of(tcp.settimeout, object))
        assert.matches("bad argument #1 to", support.error_of(udp.receive, object))
      end
      assert.matches("bad argument #1 to", support.error_of(udp.receive, tcp))
      assert.matches("bad argument #1 to", support.error_of(udp.sendto, tcp, "x", "127.0.0.1", 1))
    end)

    it("belong to classes", function()
      local tcp <close> = socket.tcp()
      local core = require "moonlet.socket.core"
      assert.is_true(tcp:is(core.TCP))
      assert.is_true(tcp:is(core.Stream))
      assert.is_true(tcp:is(core.Socket))
      assert.is_false(tcp:is(core.UDP))
      tcp.mark = "mine"
      assert.equal("mine", tcp.mark)
    end)
  end)

  describe("getstats", function()
    it("counts the bytes handed over and sent, and the age", function()
      local near, far, _ <close> = sockets.pair()
      assert(far:send("line\r\nrest"))
      assert.equal("line", near:receive())
      local received, sent, age = near:getstats()
      assert.same({ 6, 0 }, { received, sent })
      assert.equal("integer", math.type(received))
      assert.is_true(age >= 0 and age < 20)
      assert.equal("rest", near:receive(4))
      assert(near:send("abc", 2))
      assert.same({ 10, 2 }, { (near:getstats()), (select(2, near:getstats())) })
    end)

    it("counts on from what setstats says", function()
      local near, far, _ <close> = sockets.pair()
      assert.equal(1, near:setstats(100, 50, 7))
      assert(near:send("x"))
      local received, sent, age = near:getstats()
      assert.same({ 100, 51 }, { received, sent })
      assert.is_true(age >= 7 and age < 27)
      near:setstats()
      assert.same({ 100, 51 }, { (near:getstats()), (select(2, near:getstats())) })
      assert.matches("bad argument #1 to 'setstats'", support.error_of(function()
        near:setstats("many")
      end))
      assert(far)
    end)
  end)
end)
