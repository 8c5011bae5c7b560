-- Descriptors that change hands, are closed by others, and whose numbers are used again.

local moonlet = require "moonlet"
local socket = require "moonlet.socket"
local sockets = require "support.sockets"
local support = require "support"

describe("moonlet.socket, a descriptor's number", function()
  sockets.watch_descriptors(before_each, after_each)

  it("used again at once wakes who waited on the old one, and nobody on the new one", function()
    local near, far, _ <close> = sockets.pair()
    local number = near:getfd()
    local seen = support.trace()
    local old = sockets.start(function()
      local _, message = near:receive()
      seen("old " .. message)
    end)
    near:close()
    local a, b = socket.socketpair()
    local _ <close> = sockets.closing(a, b)
    if a:getfd() ~= number then
      a, b = b, a
    end
    assert.equal(number, a:getfd())
    local new = moonlet.spawn(function()
      seen("new " .. a:receive())
    end)
    support.turns()
    assert.equal("old closed", tostring(seen))
    assert(b:send("data\n"))
    new:join()
    old:join()
    assert.equal("old closed new data", tostring(seen))
    assert(far)
  end)

  it("used again at once: the same for writers, acceptors and those who connect", function()
    local hole <close> = sockets.black_hole()
    local server = sockets.listen()
    local near, far, _ <close> = sockets.pair()
    sockets.fill(near)
    local pending = socket.tcp()
    for _, case in ipairs {
      { near, near.send, near, "x" },
      { server, server.accept, server },
      { pending, pending.connect, pending, "127.0.0.1", hole.port },
    } do
      local sock = case[1]
      local waiter = sockets.start(table.unpack(case, 2))
      local number = sock:getfd()
      sock:close()
      local a, b = socket.socketpair()
      local _ <close> = sockets.closing(a, b)
      if a:getfd() ~= number then
        a, b = b, a
      end
      local reader = moonlet.spawn(a.receive, a)
      assert.equal("closed", select(2, waiter:get()))
      assert(b:send("untouched\n"))
      assert.equal("untouched", reader:get())
    end
    assert(far)
  end)

  it("passes from one socket to another by setfd; who waited gets 'closed'", function()
    local near, far, _ <close> = sockets.pair()
    local other <close> = socket.tcp()
    local number = near:getfd()
    local waiter = sockets.start(near.receive, near)
    other:setfd(number)
    assert.same({ nil, "closed", "" }, { waiter:get() })
    assert.equal(number, other:getfd())
    assert.equal(-1, near:getfd())
    assert.equal("tcp{client}", other.class)
    near:setfd(socket._SOCKETINVALID) -- as LuaSec does
    near:close()
    assert(far:send("on\n"))
    assert.equal("on", other:receive())
    assert.equal(2, other:send("ok"))
    assert.equal("ok", far:receive(2))
  end)

  it("is let go by setfd(-1), and stays open", function()
    local near, far, _ <close> = sockets.pair()
    local number = near:getfd()
    local waiter = sockets.start(near.receive, near)
    near:setfd(-1)
    assert.same({ nil, "closed", "" }, { waiter:get() })
    near:close()
    near:setfd(number)
    assert(far:send("still open\n"))
    assert.equal("still open", near:receive())
  end)

  it("that is exchanged under a waiter is not read by it", function()
    local near, far, _ <close> = sockets.pair()
    local a, b = socket.socketpair()
    local _ <close> = sockets.closing(a, b)
    local tcp <close> = socket.tcp()
    local results = {}
    local waiter = sockets.start(function()
      results = { near:receive() }
    end)
    local kept = near:getfd()
    assert(b:send("for the new owner\n"))
    near:setfd(a:getfd())
    waiter:join()
    assert.same({ nil, "closed", "" }, results)
    assert.equal("for the new owner", near:receive())
    tcp:setfd(kept)
    assert(far:send("line\n"))
    assert.equal("line", tcp:receive())
  end)

  it("that is closed and exchanged in one turn is not read by who waited", function()
    local near, far, _ <close> = sockets.pair()
    local more, peer, _ <close> = sockets.pair()
    local waiter = sockets.start(near.receive, near)
    assert(peer:send("for the new owner\n"))
    support.eventually(function()
      return #socket.select({ more }, nil, 1) == 1
    end)
    near:close()
    near:setfd(more:getfd())
    assert.same({ nil, "closed", "" }, { waiter:get() })
    assert.equal("for the new owner", near:receive())
    assert(far)
  end)

  it("forgets what came over the one before", function()
    local near, far, _ <close> = sockets.pair()
    local more, peer, _ <close> = sockets.pair()
    assert(far:send("one\ntwo\n"))
    assert.equal("one", near:receive())
    local before <close> = socket.tcp()
    before:setfd(near:getfd())
    near:setfd(more:getfd())
    assert.is_false(near:dirty())
    assert(peer:send("three\n"))
    assert.equal("three", near:receive())
  end)

  it("takes over what somebody else has made: its state and family", function()
    local server <close>, port = sockets.listen()
    local other = socket.tcp()
    local fd = server:getfd()
    other:setfd(fd)
    assert.equal("tcp{server}", other.class)
    local near <close> = socket.connect("127.0.0.1", port)
    other:accept():close()
    other:close()
    assert.equal(-1, server:getfd())
    local fresh <close> = socket.tcp4()
    other:setfd(fresh:getfd())
    assert.equal("tcp{master}", other.class)
    assert.equal("inet", other:getfamily())
    other:close()
    assert(near)
  end)

  it("must be that of an open socket of the kind", function()
    local sock <close> = socket.tcp()
    local udp <close> = socket.udp4()
    local file <close> = assert(io.tmpfile())
    for _, number in ipairs { -2, 1 << 18, 1 << 40, "x", udp:getfd(), 1.5 } do
      assert.matches("bad argument #1 to 'setfd'", support.error_of(function()
        sock:setfd(number)
      end))
    end
    assert.matches("bad argument #1 to 'setfd'", support.error_of(function() sock:setfd() end))
    assert(file)
  end)
end)

describe("moonlet.socket, a descriptor closed by somebody else", function()
  -- LuaSocket itself plays the part: an object of its own with the same descriptor.
  local foreign = [[
    local real = require "socket"
    local function close_behind(sock)
      local object = real.tcp()
      object:setfd(sock:getfd())
      object:close()
    end
    local function pair()
      local server <close> = assert(socket.bind("127.0.0.1", 0))
      local near = assert(socket.connect("127.0.0.1", (select(2, server:getsockname()))))
      return near, assert(server:accept())
    end
  ]]

  it("while a greenlet waits does not end the program", function()
    assert.equal("timeout\nclosed\nclosed\n", sockets.run(foreign .. [[
      local near, far = pair()
      local reader = moonlet.spawn(near.receive, near)
      moonlet.sleep(0.001)
      close_behind(near)
      print(select(2, moonlet.with_timeout(0.01, reader.get, reader)))
      print((select(2, near:send("x"))))
      local a, b = socket.socketpair()
      moonlet.sleep(0.01)
      assert(b:send("ok\n"))
      assert(a:receive() == "ok")
      near:close()
      print((select(2, reader:get())))
    ]]))
  end)

  it("before the loop has seen it: who waits gets 'closed', and the socket has none", function()
    assert.equal("closed\n-1\n", sockets.run(foreign .. [[
      local near, far = pair()
      local reader = moonlet.spawn(near.receive, near)
      moonlet.spawn(close_behind, near)
      print((select(2, reader:get())))
      print(near:getfd())
    ]]))
  end)

  it("between waits: the next one says 'closed'", function()
    assert.equal("closed\nclosed\nclosed\n", sockets.run(foreign .. [[
      local near, far = pair()
      local reader = moonlet.spawn(near.receive, near)
      moonlet.sleep(0.001)
      far:send("one\n")
      assert(reader:get() == "one")
      close_behind(near)
      print((select(2, near:receive())))
      print((select(2, near:send("x"))))
      moonlet.sleep(0.01)
      near:close()
      near:close()
      print((select(2, near:receive())))
      moonlet.sleep(0.01)
    ]]))
  end)

  it("and its number used again: the new socket has it, the old one none", function()
    assert.equal("closed\n-1\nline\nline\n", sockets.run(foreign .. [[
      local near, far = pair()
      local reader = moonlet.spawn(near.receive, near)
      moonlet.sleep(0.001)
      local number = near:getfd()
      close_behind(near)
      local a, b = socket.socketpair()
      if a:getfd() ~= number then
        a, b = b, a
      end
      assert(a:getfd() == number)
      print((select(2, reader:get())))
      print(near:getfd())
      near:close()
      for _ = 1, 2 do
        reader = moonlet.spawn(a.receive, a)
        moonlet.sleep(0.001)
        assert(b:send("line\n"))
        print((reader:get()))
        collectgarbage()
      end
    ]]))
  end)

  it("in all orders and with many sockets", function()
    assert.equal("done\n", sockets.run(foreign .. [[
      math.randomseed(7)
      local socks, greenlets = {}, {}
      for round = 1, 400 do
        local near, far = pair()
        local list = { near, far }
        for _, sock in ipairs(list) do
          table.insert(socks, sock)
          table.insert(greenlets, moonlet.spawn(function()
            pcall(function()
              sock:settimeout(math.random() / 50)
              while sock:receive() do end
            end)
          end))
        end
        for _ = 1, 4 do
          local sock = socks[math.random(#socks)]
          local action = math.random(6)
          if action == 1 and sock:getfd() >= 0 then
            close_behind(sock)
          elseif action == 2 then
            sock:close()
          elseif action == 3 then
            pcall(sock.send, sock, "x\n")
          elseif action == 4 then
            moonlet.sleep(0)
          elseif action == 5 then
            pcall(sock.setfd, sock, socks[math.random(#socks)]:getfd())
          else
            moonlet.sleep(0.0005)
          end
        end
      end
      moonlet.joinall(greenlets)
      print "done"
    ]], { timeout = 60 }))
  end)
end)
