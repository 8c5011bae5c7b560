local moonlet = require "moonlet"
local socket = require "moonlet.socket"
local sockets = require "support.sockets"
local support = require "support"

describe("moonlet.socket, making connections:", function()
  sockets.watch_descriptors(before_each, after_each)

  describe("connect", function()
    it("makes a client of it, which LuaSocket's `class` says", function()
      local server <close>, port = sockets.listen()
      local sock <close> = socket.tcp()
      assert.equal("tcp{master}", sock.class)
      assert.equal("tcp{server}", server.class)
      assert.equal(1, sock:connect("127.0.0.1", port))
      assert.equal("tcp{client}", sock.class)
    end)

    it("is refused where nobody listens; the socket can be used again", function()
      local dead = sockets.dead_port()
      local server <close>, port = sockets.listen()
      for _, maker in ipairs { socket.tcp, socket.tcp4 } do
        local sock <close> = maker()
        assert.same({ nil, "connection refused", 111 }, { sock:connect("127.0.0.1", dead) })
        assert.equal("tcp{master}", sock.class)
        assert.equal(1, sock:connect("127.0.0.1", port))
        assert(server:accept()):close()
      end
    end)

    it("may be tried with another family after a failure", function()
      local server <close>, port = sockets.listen()
      local sock <close> = socket.tcp()
      assert.is_nil((sock:connect("::1", sockets.dead_port())))
      assert.equal("unspec", sock:getfamily())
      assert.is_nil((sock:bind("::2", 0)))
      assert.equal(1, sock:connect("127.0.0.1", port))
      assert(server:accept()):close()
    end)

    it("waits for a name also with a timeout of 0, as LuaSocket's", function()
      local server <close>, port = sockets.listen()
      local sock <close> = socket.tcp()
      sock:settimeout(0)
      local ok, message = sock:connect("localhost", port)
      assert.truthy(ok or message == "timeout")
      assert.is_true(sock:getfd() >= 0)
      assert(server:accept()):close()
      local udp <close> = socket.udp()
      udp:settimeout(0, "t")
      assert.equal(1, udp:setpeername("localhost", port))
    end)

    it("is killed, timed out or closed while it looks a name up", function()
      for _, sock in ipairs { socket.tcp(), socket.udp() } do
        local victim = moonlet.spawn(sock.connect, sock, "localhost", 1)
        moonlet.sleep(0)
        victim:kill()
        sock:settimeout(1e-9)
        local ok = sock:connect("localhost", 1)
        assert.is_nil((ok and sock.class ~= "udp{connected}") or nil)
        sock:settimeout()
        victim = moonlet.spawn(sock.connect, sock, "localhost", 1)
        moonlet.sleep(0)
        sock:close()
        local _, message = victim:get()
        -- a quick resolver lets connect get on before it is closed
        assert.truthy(message ~= "timeout", message)
      end
    end)

    it("tries all addresses of a name", function()
      local server <close>, port = sockets.listen() -- "localhost" is ::1 as well, as a rule
      local sock <close> = assert(socket.connect("localhost", port))
      assert.equal("127.0.0.1", (sock:getpeername()))
      assert(server:accept()):close()
    end)

    it("tries the next address when one does not answer in time", function()
      local infos = socket.dns.getaddrinfo("localhost")
      local first, last = infos[1].addr, infos[#infos].addr
      local hole <close> = sockets.black_hole(first)
      local sock <close> = socket.tcp()
      if first == last then
        sock:settimeout(0.02)
        assert.same({ nil, "timeout" }, { sock:connect("localhost", hole.port) })
      else
        local server <close> = assert(socket.bind(last, hole.port))
        sock:settimeout(0.02, "t")
        assert.same({ nil, "timeout" }, { sock:connect("localhost", hole.port) })
        sock:close()
        local other <close> = socket.tcp()
        other:settimeout(0.02)
        assert.equal(1, other:connect("localhost", hole.port))
        assert.equal(last, (other:getpeername()))
        server:accept():close()
      end
    end)

    it("keeps a socket that was bound, also when it is refused first", function()
      local server, port = sockets.listen()
      local sock <close> = socket.tcp()
      assert(sock:bind("127.0.0.1", sockets.dead_port()))
      local name = { sock:getsockname() }
      local fd = sock:getfd()
      assert.equal("connection refused", select(2, sock:connect("127.0.0.1", sockets.dead_port())))
      assert.equal(1, sock:connect("127.0.0.1", port))
      assert.equal(fd, sock:getfd())
      assert.same(name, { sock:getsockname() })
      server:close()
    end)

    it("says that the name is not known", function()
      local sock <close> = socket.tcp()
      local ok, message = sock:connect("no.such.name.invalid", 80)
      assert.is_nil(ok)
      assert.equal("string", type(message))
      assert.same({ nil, "host or service not provided, or not known" },
                  { (select(1, socket.connect("", 80))), (select(2, socket.connect("", 80))) })
    end)

    it("says that it is connected already", function()
      local near, far, _ <close> = sockets.pair()
      local _, port = far:getsockname()
      near:connect("127.0.0.1", port) -- the kernel says yes once to those that did not wait
      assert.same({ nil, "already connected", 106 }, { near:connect("127.0.0.1", port) })
      assert.equal(1, far:send("x"))
      assert.equal("x", near:receive(1))
    end)

    it("with a timeout of 0 begins, to be asked again", function()
      local server <close>, port = sockets.listen()
      local sock <close> = socket.tcp()
      sock:settimeout(0)
      local ok, message = sock:connect("127.0.0.1", port)
      if not ok then
        assert.equal("timeout", message)
        assert.same({ sock }, (function()
          local _, writable = socket.select(nil, { sock }, 5)
          return { writable[1] }
        end)())
        ok, message = sock:connect("127.0.0.1", port)
        assert.truthy(ok or message == "already connected", message)
      end
      local far <close> = server:accept()
      assert.equal(1, sock:send("x"))
      assert.equal("x", far:receive(1))
    end)

    it("takes ports as numbers, strings and names of services", function()
      local server <close>, port = sockets.listen()
      for _, form in ipairs { port, tostring(port), port + 0.0 } do
        assert(socket.connect("127.0.0.1", form)):close()
        assert(server:accept()):close()
      end
      local _, message = socket.connect("127.0.0.1", "no-such-service")
      assert.equal("service not supported for socket type", message)
    end)

    it("refuses bad arguments by number", function()
      local sock <close> = socket.tcp()
      local function refused(number, f, ...)
        assert.matches("bad argument #" .. number .. " to ", support.error_of(f, ...))
      end
      for _, call in ipairs { socket.connect, socket.connect4, socket.connect6, socket.bind,
                              function(...) return sock:connect(...) end,
                              function(...) return sock:bind(...) end } do
        refused(1, call, nil, 80)
        refused(1, call, {}, 80)
        refused(1, call, "127.0.0.1\0.example", 80)
        refused(2, call, "127.0.0.1")
        refused(2, call, "127.0.0.1", {})
        refused(2, call, "127.0.0.1", 65536)
        refused(2, call, "127.0.0.1", -1)
        refused(2, call, "127.0.0.1", 65536 + 80)
        refused(2, call, "127.0.0.1", "65616")
      end
      refused(3, socket.connect, "127.0.0.1", 1, {})
      refused(4, socket.connect, "127.0.0.1", 1, "127.0.0.1", "70000")
      refused(5, socket.connect, "127.0.0.1", 1, nil, nil, "ipx")
      refused(3, socket.bind, "127.0.0.1", 0, "many")
    end)

    it("blames whoever gave a bad argument", function()
      local here = "socket_connect_spec%.lua:%d+: bad argument #"
      for _, name in ipairs { "connect", "connect4", "connect6", "bind" } do
        assert.matches(here .. "1 to '" .. name .. "'", support.error_of(function()
          local sock = socket[name](nil, 80)
          return sock
        end))
        assert.matches(here .. "2 to '" .. name .. "'", support.error_of(function()
          local sock = socket[name]("127.0.0.1", {})
          return sock
        end))
      end
    end)

    it("cannot be done by a server", function()
      local server <close>, port = sockets.listen()
      assert.matches("socket listens", support.error_of(server.connect, server, "127.0.0.1", port))
    end)
  end)

  describe("socket.connect", function()
    it("has a local address if it is given one", function()
      local server <close>, port = sockets.listen()
      local sock <close> = assert(socket.connect("127.0.0.1", port, "127.0.0.2"))
      assert.equal("127.0.0.2", (sock:getsockname()))
      local free = sockets.dead_port()
      local other <close> = assert(socket.connect("127.0.0.1", port, "127.0.0.1", free))
      assert.same({ "127.0.0.1", free, "inet" }, { other:getsockname() })
      assert.same({ nil, "Cannot assign requested address", 99 },
                  { socket.connect("127.0.0.1", port, "198.51.100.1") })
      assert(server:accept()):close()
      assert(server:accept()):close()
    end)

    it("keeps to a family", function()
      local server <close>, port = sockets.listen()
      local sock <close> = assert(socket.connect4("localhost", port))
      assert.equal("inet", sock:getfamily())
      assert.is_nil(socket.connect6("127.0.0.1", port))
      assert.is_nil(socket.connect("127.0.0.1", port, "127.0.0.1", 0, "inet6"))
      assert(server:accept()):close()
    end)
  end)

  describe("create_connection", function()
    it("takes all forms of addresses", function()
      local server <close>, port = sockets.listen()
      local forms = { { "127.0.0.1", port }, "127.0.0.1:" .. port, "localhost:" .. port, port,
                      { host = "127.0.0.1", port = port }, ":" .. port }
      for _, form in ipairs(forms) do
        local sock <close> = assert(socket.create_connection(form))
        assert.same({ -1, -1 }, { sock:gettimeout() })
        assert(server:accept()):close()
      end
    end)

    it("leaves its timeout on the socket", function()
      local server <close>, port = sockets.listen()
      local sock <close> = assert(socket.create_connection({ "127.0.0.1", port }, 7))
      assert.same({ 7, -1 }, { sock:gettimeout() })
      assert(server:accept()):close()
    end)

    it("takes a started Timeout, which raises", function()
      local hole <close> = sockets.black_hole()
      local limit <close> = moonlet.Timeout.start_new(0.02)
      assert.equal(limit, support.error_of(socket.create_connection, { "127.0.0.1", hole.port },
                                           limit))
      local server <close>, port = sockets.listen()
      local long <close> = moonlet.Timeout.start_new(10)
      local sock <close> = assert(socket.create_connection({ "127.0.0.1", port }, long))
      assert.same({ -1, -1 }, { sock:gettimeout() })
      assert(server:accept()):close()
    end)

    it("returns why there is none", function()
      assert.same({ nil, "connection refused", 111 },
                  { socket.create_connection { "127.0.0.1", sockets.dead_port() } })
      local hole <close> = sockets.black_hole()
      for _, seconds in ipairs { 0.02, 0 } do
        assert.same({ nil, "timeout" },
                    { socket.create_connection({ "127.0.0.1", hole.port }, seconds) })
      end
      local sock, message, number = socket.create_connection "unix:/no/such/socket"
      assert.same({ nil, "No such file or directory", 2 }, { sock, message, number })
    end)

    it("refuses bad arguments by number", function()
      local function refused(number, ...)
        assert.matches("bad argument #" .. number .. " to 'create_connection'",
                       support.error_of(socket.create_connection, ...))
      end
      refused(1)
      refused(1, "nonsense")
      refused(1, { "127.0.0.1", 70000 })
      refused(1, {})
      refused(2, { "127.0.0.1", 1 }, "soon")
      refused(2, { "127.0.0.1", 1 }, 0 / 0)
      refused(2, { "127.0.0.1", 1 }, moonlet.Timeout(1))
    end)
  end)
end)
