local moonlet = require "moonlet"
local places = require "support.places"
local socket = require "moonlet.socket"
local sockets = require "support.sockets"
local support = require "support"

-- A socket on a free port of 127.0.0.1, and the port.
local function listen()
  local sock = assert(socket.udp())
  assert(sock:setsockname("127.0.0.1", 0))
  return sock, select(2, sock:getsockname())
end

describe("moonlet.socket, UDP:", function()
  local here, there, port

  after_each(function()
    here:close()
    there:close()
  end)

  sockets.watch_descriptors(before_each, after_each)

  before_each(function()
    here, port = listen()
    there = socket.udp()
  end)

  it("sends a datagram to an address, and receives it with its sender's", function()
    assert.equal(1, there:sendto("hello", "127.0.0.1", port))
    local data, host, from = here:receivefrom()
    assert.same({ "hello", "127.0.0.1" }, { data, host })
    assert.equal(from, (select(2, there:getsockname())))
    assert.equal(1, here:sendto("back", host, tostring(from)))
    assert.equal("back", there:receive())
  end)

  it("keeps the bounds of datagrams, empty ones too", function()
    for _, data in ipairs { "a", "", ("x"):rep(60000), "b\0c" } do
      assert(there:sendto(data, "127.0.0.1", port))
      assert.equal(data, here:receive(65536))
    end
  end)

  it("cuts what is longer than asked for, or than 8192 bytes", function()
    assert(there:sendto("abcdef", "127.0.0.1", port))
    assert.equal("abc", here:receive(3))
    assert(there:sendto(("x"):rep(10000), "127.0.0.1", port))
    assert.equal(8192, #here:receive())
    assert(there:sendto("whole", "127.0.0.1", port))
    assert.equal("who", (here:receivefrom(3)))
  end)

  it("blocks only its greenlet until one comes", function()
    local seen = support.trace()
    local reader = sockets.start(function()
      local data, host = here:receivefrom()
      seen(data, host)
    end)
    seen("others ran")
    assert(there:sendto("x", "127.0.0.1", port))
    reader:join()
    assert.equal("others ran x 127.0.0.1", tostring(seen))
  end)

  it("returns nil, 'timeout' when none comes", function()
    for _, seconds in ipairs { 0, 0.005 } do
      for _, mode in ipairs { "b", "t" } do
        here:settimeout(seconds, mode)
        assert.same({ nil, "timeout" }, { here:receive() })
        assert.same({ nil, "timeout" }, { here:receivefrom() })
      end
    end
  end)

  it("returns nil, 'closed' in a later turn when another greenlet closes it", function()
    local results
    local reader = sockets.start(function()
      results = { here:receive() }
    end)
    here:close()
    assert.is_nil(results)
    reader:join()
    assert.same({ nil, "closed" }, results)
    for _, call in ipairs {
      function() return here:receive() end,
      function() return here:receivefrom() end,
      function() return here:send("x") end,
      function() return here:sendto("x", "127.0.0.1", port) end,
      function() return here:setsockname("127.0.0.1", 0) end,
      function() return here:setpeername("127.0.0.1", port) end,
    } do
      assert.same({ nil, "closed" }, { call() })
    end
  end)

  it("cannot be read by two greenlets at once; the first is undisturbed", function()
    local reader = sockets.start(here.receive, here)
    assert.matches("already used by another greenlet", support.error_of(here.receive, here))
    assert.matches("already used by another greenlet", support.error_of(here.receivefrom, here))
    assert(there:sendto("x", "127.0.0.1", port))
    assert.equal("x", reader:get())
  end)

  describe("with a peer", function()
    it("sends to it and hears it alone", function()
      assert.equal("udp{unconnected}", there.class)
      assert.equal(1, there:setpeername("127.0.0.1", port))
      assert.equal("udp{connected}", there.class)
      assert.same({ "127.0.0.1", port, "inet" }, { there:getpeername() })
      assert.equal(1, there:send("x"))
      local _, host, from = here:receivefrom()
      local stranger <close> = socket.udp()
      assert(stranger:sendto("not heard", host, from))
      assert(here:sendto("heard", host, from))
      assert.equal("heard", there:receive())
      there:settimeout(0.005)
      assert.same({ nil, "timeout" }, { there:receive() })
    end)

    it("loses it with '*'", function()
      assert(there:setpeername("127.0.0.1", port))
      assert.equal(1, there:setpeername("*"))
      assert.equal("udp{unconnected}", there.class)
      assert.same({ nil, "Transport endpoint is not connected", 107 }, { there:getpeername() })
      assert.same({ nil, "Destination address required", 89 }, { there:send("x") })
      local fresh <close> = socket.udp()
      assert.equal(1, fresh:setpeername("*"))
    end)

    it("that does not listen is told of by the next call", function()
      assert(there:setpeername("127.0.0.1", port))
      here:close()
      assert(there:send("x"))
      assert.same({ nil, "connection refused", 111 }, { there:receive() })
      assert(there:send("x"))
      support.eventually(function()
        local sent, message = there:send("x")
        assert(sent or message == "connection refused", message)
        return not sent
      end)
    end)

    it("that does not listen wakes who waits", function()
      assert(there:setpeername("127.0.0.1", port))
      local reader = sockets.start(there.receive, there)
      here:close()
      assert(there:send("x"))
      assert.same({ nil, "connection refused", 111 }, { reader:get() })
    end)

    it("may be found by name", function()
      local six <close> = socket.udp()
      assert.equal(1, six:setpeername("localhost", port))
      assert.is_nil((there:setpeername("no.such.name.invalid", port)))
    end)
  end)

  it("without a descriptor yet can only be bound, connected, or send to somebody", function()
    local sock <close> = socket.udp()
    assert.equal(-1, sock:getfd())
    for _, name in ipairs { "receive", "receivefrom", "send" } do
      assert.same({ nil, "Transport endpoint is not connected", 107 }, { sock[name](sock, "1") })
    end
    assert.equal(1, sock:sendto("x", "127.0.0.1", port))
    assert.equal("inet", sock:getfamily())
  end)

  it("speaks IPv6", function()
    local six <close> = socket.udp6()
    assert(six:setsockname("::1", 0))
    local _, number, family = six:getsockname()
    assert.equal("inet6", family)
    local other <close> = socket.udp()
    assert.equal(1, other:sendto("x", "::1", number))
    local data, host, from = six:receivefrom()
    assert.same({ "x", "::1" }, { data, host })
    assert.equal(from, (select(2, other:getsockname())))
    assert.equal(1, six:sendto("y", "::1", from))
    assert.equal("y", other:receive())
  end)

  it("may be tried with another family after a failure", function()
    local sock <close> = socket.udp()
    assert.is_nil((sock:setsockname("::2", 0)))
    assert.equal("unspec", sock:getfamily())
    assert.equal(1, sock:setsockname("127.0.0.1", 0))
  end)

  it("is bound to all addresses by '*'", function()
    local sock <close> = socket.udp()
    assert.equal(1, sock:setsockname("*", 0))
    assert.equal("0.0.0.0", (sock:getsockname()))
  end)

  it("cannot send more than a datagram holds", function()
    assert.same({ nil, "Message too long", 90 },
                { there:sendto(("x"):rep(70000), "127.0.0.1", port) })
  end)

  it("counts what went through, and is never dirty", function()
    assert(there:sendto("hello", "127.0.0.1", port))
    assert.is_false(here:dirty())
    assert.equal("hel", here:receive(3))
    assert.equal(3, (here:getstats()))
    assert.equal(5, (select(2, there:getstats())))
  end)

  it("refuses bad arguments by number", function()
    local function refused(number, name, ...) -- called so, the socket itself is the first one
      assert.matches(("bad argument #%d to"):format(number + 1),
                     support.error_of(here[name], here, ...))
    end
    refused(1, "sendto", {}, "127.0.0.1", 1)
    refused(2, "sendto", "x", "localhost", 1)
    refused(2, "sendto", "x", "::1", 1)
    refused(2, "sendto", "x", "127.0.0.1\0", 1)
    refused(2, "sendto", "x", nil, 1)
    refused(3, "sendto", "x", "127.0.0.1", "http")
    refused(3, "sendto", "x", "127.0.0.1", 65536)
    refused(3, "sendto", "x", "127.0.0.1")
    refused(1, "send", {})
    refused(1, "receive", -1)
    refused(1, "receive", "*l")
    refused(1, "receivefrom", {})
    refused(1, "setsockname", nil, 0)
    refused(2, "setsockname", "127.0.0.1", 70000)
    refused(2, "setpeername", "127.0.0.1", -1)
    refused(2, "setpeername", "127.0.0.1")
  end)

  it("says what it is", function()
    assert.matches("^udp{unconnected}: 0x%x+$", tostring(here))
    here:close()
    assert.matches("%(closed%)$", tostring(here))
  end)

  for _, place in ipairs(places) do
    it("killed or timed out in " .. place.name .. " loses no datagram", function()
      local timed_out = false
      local reader = moonlet.spawn(function()
        local limit = moonlet.Timeout(0.001)
        assert.equal(limit, support.error_of(limit.run, limit, place.run, function()
          here:receivefrom()
        end))
        timed_out = true
        place.run(function()
          here:receive()
        end)
      end)
      support.eventually(function() return timed_out end)
      assert.is_false(reader:ready())
      reader:kill()
      assert(there:sendto("x", "127.0.0.1", port))
      place.run(function()
        assert.equal("x", here:receive())
      end)
    end)
  end
end)
