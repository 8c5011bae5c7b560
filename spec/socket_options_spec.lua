local socket = require "moonlet.socket"
local sockets = require "support.sockets"
local support = require "support"

describe("moonlet.socket, options:", function()
  sockets.watch_descriptors(before_each, after_each)

  -- Sets an option, and asks for it again.
  local function set(sock, name, value)
    assert.equal(1, sock:setoption(name, value))
    return sock:getoption(name)
  end

  it("booleans of all sockets", function()
    for _, maker in ipairs { "tcp", "tcp4", "tcp6", "udp", "udp4", "udp6" } do
      local sock <close> = socket[maker]()
      for _, name in ipairs { "keepalive", "reuseaddr", "reuseport", "dontroute", "broadcast" } do
        if not (name == "keepalive" and maker:find("udp")) then
          assert.is_true(set(sock, name, true), name)
          assert.is_false(set(sock, name, false), name)
        end
      end
    end
  end)

  it("of TCP", function()
    local sock <close> = socket.tcp()
    assert.is_true(set(sock, "tcp-nodelay", true))
    assert.is_false(set(sock, "tcp-nodelay", false))
    assert.equal(77, set(sock, "tcp-keepidle", 77))
    assert.equal(5, set(sock, "tcp-keepcnt", 5))
    assert.equal(9, set(sock, "tcp-keepintvl", 9))
    assert.equal(5000, set(sock, "tcp-user-timeout", 5000))
    assert.is_true(set(sock, "tcp-defer-accept", 1) >= 1)
    assert.is_true(set(sock, "tcp-fastopen-connect", true))
    local server <close> = sockets.listen()
    assert.equal(16, set(server, "tcp-fastopen", 16))
  end)

  it("of buffers, which the kernel rounds", function()
    local sock <close> = socket.tcp()
    assert.is_true(set(sock, "send-buffer-size", 20000) >= 20000)
    assert.is_true(set(sock, "recv-buffer-size", 20000) >= 20000)
  end)

  it("linger", function()
    local sock <close> = socket.tcp()
    assert.same({ on = false, timeout = 0 }, sock:getoption("linger"))
    assert.same({ on = true, timeout = 3 }, set(sock, "linger", { on = true, timeout = 3 }))
    for _, value in ipairs { 1, {}, { on = 1, timeout = 1 }, { on = true },
                             { on = true, timeout = 1e300 }, { on = true, timeout = 0 / 0 },
                             { on = true, timeout = "x" } } do
      assert.matches("bad argument #2 to 'setoption'", support.error_of(function()
        sock:setoption("linger", value)
      end))
    end
  end)

  it("of IPv6", function()
    local sock <close> = socket.udp6()
    assert.is_false(set(sock, "ipv6-v6only", false))
    assert.is_true(set(sock, "ipv6-v6only", true))
    assert.equal(7, set(sock, "ipv6-unicast-hops", 7))
    assert.equal(8, set(sock, "ipv6-multicast-hops", 8))
    assert.is_false(set(sock, "ipv6-multicast-loop", false))
    assert.is_nil((sock:setoption("ipv6-add-membership", { multiaddr = "::1" })))
    assert.matches("bad argument #2", support.error_of(function()
      sock:setoption("ipv6-add-membership", { multiaddr = "10.0.0.1" })
    end))
    assert.matches("bad argument #2", support.error_of(function()
      sock:setoption("ipv6-drop-membership", { multiaddr = "ff02::1", interface = "lo" })
    end))
  end)

  it("of multicast, which works on the loopback", function()
    local hearer <close> = socket.udp4()
    assert(hearer:setsockname("*", 0))
    local _, port = hearer:getsockname()
    local group = { multiaddr = "239.255.10.11", interface = "127.0.0.1" }
    assert.equal(1, hearer:setoption("ip-add-membership", group))
    local speaker <close> = socket.udp4()
    assert.equal("127.0.0.1", set(speaker, "ip-multicast-if", "127.0.0.1"))
    assert.equal(2, set(speaker, "ip-multicast-ttl", 2))
    assert.is_true(set(speaker, "ip-multicast-loop", true))
    assert.equal(1, speaker:sendto("to all", group.multiaddr, port))
    hearer:settimeout(5)
    assert.equal("to all", hearer:receive())
    assert.equal(1, hearer:setoption("ip-drop-membership", group))
    hearer:settimeout(0.01)
    assert(speaker:sendto("to nobody", group.multiaddr, port))
    assert.same({ nil, "timeout" }, { hearer:receive() })
    assert.is_nil((hearer:setoption("ip-drop-membership", group)))
  end)

  it("error: what is pending, once", function()
    local sock <close> = socket.udp4()
    assert.is_nil(sock:getoption("error"))
    assert(sock:setpeername("127.0.0.1", sockets.dead_port()))
    assert(sock:send("x"))
    local found
    support.eventually(function()
      found = sock:getoption("error")
      return found
    end)
    assert.equal("connection refused", found)
    assert.is_nil(sock:getoption("error"))
    assert.matches("bad argument #1 to 'setoption'", support.error_of(function()
      sock:setoption("error", true)
    end))
  end)

  it("bindtodevice", function()
    local sock <close> = socket.tcp4()
    local name = sock:getoption("bindtodevice")
    assert.equal("", name)
    local ok, message, number = sock:setoption("bindtodevice", "no-such-device")
    assert.is_nil(ok)
    assert.same({ "string", "integer" }, { type(message), math.type(number) })
    assert.matches("bad argument #2", support.error_of(function()
      sock:setoption("bindtodevice", {})
    end))
  end)

  it("give a socket without a family the one they need", function()
    local four <close> = socket.tcp()
    assert(four:setoption("reuseaddr", true))
    assert.equal("inet", four:getfamily())
    local six <close> = socket.udp()
    assert(six:setoption("ipv6-unicast-hops", 3))
    assert.equal("inet6", six:getfamily())
    local unix <close> = socket.unix()
    assert.is_false(unix:getoption("broadcast"))
    assert.same({ nil, "Operation not supported", 95 }, { unix:setoption("tcp-nodelay", true) })
  end)

  it("refuse names that are none", function()
    local sock <close> = socket.tcp()
    local udp <close> = socket.udp()
    for _, name in ipairs { "nonsense", "", "Keepalive", {} } do
      for _, method in ipairs { "setoption", "getoption" } do
        assert.matches("bad argument #2 to", support.error_of(sock[method], sock, name, true))
      end
    end
    assert.matches("bad argument #1 to", support.error_of(udp.setoption, udp, "line-limit", 1))
    assert.matches("bad argument #1 to", support.error_of(udp.getoption, udp, "line-limit"))
    assert.is_nil((udp:getoption("ip-add-membership")))
  end)

  it("refuse values of another type, or out of range", function()
    local sock <close> = socket.udp4()
    for name, values in pairs {
      keepalive = { 1, "true", {} },
      broadcast = { 0 },
      ["recv-buffer-size"] = { true, "x", 1.5, 1 << 31, -(1 << 40) },
      ["ip-multicast-if"] = { "lo", "::1", {}, true },
      ["ip-add-membership"] = { 1, {}, { multiaddr = "x", interface = "*" },
                                { multiaddr = "239.0.0.1" },
                                { multiaddr = "239.0.0.1", interface = "lo" } },
    } do
      for _, value in ipairs(values) do
        assert.matches("bad argument #2 to 'setoption'", support.error_of(function()
          sock:setoption(name, value)
        end), nil, nil, name)
      end
      assert.matches("bad argument #2 to 'setoption'", support.error_of(function()
        sock:setoption(name)
      end), nil, nil, name)
    end
  end)
end)
