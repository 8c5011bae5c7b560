-- Peers that misbehave, descriptors that vanish, greenlets that are killed.

local moonlet = require "moonlet"
local places = require "support.places"
local socket = require "moonlet.socket"
local sockets = require "support.sockets"
local support = require "support"

describe("moonlet.socket, a peer", function()
  sockets.watch_descriptors(before_each, after_each)

  it("that resets the connection: 'closed', after what came before", function()
    local near, far, _ <close> = sockets.pair()
    near:settimeout(5)
    assert(far:send("line\n"))
    assert.equal("line", near:receive())
    local reader = sockets.start(near.receive, near)
    far:setoption("linger", { on = true, timeout = 0 })
    far:close()
    assert.same({ nil, "closed", "" }, { reader:get() })
    assert.same({ nil, "closed", "" }, { near:receive() })
    assert.same({ nil, "closed", 0 }, { near:send("x") })
  end)

  it("that has sent its last byte is still sent to", function()
    local near, far, _ <close> = sockets.pair()
    far:shutdown("send")
    assert.same({ nil, "closed", "" }, { near:receive("*a") })
    assert.equal(3, near:send("yes"))
    assert.equal("yes", far:receive(3))
  end)

  it("that never answers: each connect ends by its timeout, in the order in which they are due",
     function()
       local hole <close> = sockets.black_hole()
       local seen, list = support.trace(), {}
       for i, seconds in ipairs { 0.06, 0.02, 0.04 } do
         for _, mode in ipairs { "b", "t" } do
           table.insert(list, moonlet.spawn(function()
             local sock <close> = socket.tcp()
             sock:settimeout(seconds, mode)
             local ok, message = sock:connect("127.0.0.1", hole.port)
             seen(i .. (ok and "?" or message:sub(1, 1)))
           end))
         end
       end
       local before = support.clock()
       moonlet.joinall(list)
       assert.equal("2t 2t 3t 3t 1t 1t", tostring(seen))
       assert.is_true(support.clock() - before >= 0.06)
     end)

  it("that never answers: connect waits, and is killed, timed out, or closed", function()
    local hole <close> = sockets.black_hole()
    local sock <close> = socket.tcp()
    local connecting = sockets.start(sock.connect, sock, "127.0.0.1", hole.port)
    assert.is_false(connecting:ready())
    assert.matches("already used by another greenlet",
                   support.error_of(sock.connect, sock, "127.0.0.1", hole.port))
    connecting:kill()
    connecting = sockets.start(sock.connect, sock, "127.0.0.1", hole.port)
    sock:close()
    assert.same({ nil, "closed" }, { connecting:get() })
    local limit = moonlet.Timeout(0.005)
    assert.equal(limit, support.error_of(limit.run, limit, socket.connect, "127.0.0.1", hole.port))
  end)

  it("that does not take what is sent keeps the others waiting for nothing", function()
    local near, far, _ <close> = sockets.pair()
    local stuck = sockets.start(near.send, near, ("x"):rep(32 << 20))
    for _ = 1, 20 do
      local a, b, _ <close> = sockets.pair()
      assert(a:send("ping\n"))
      assert.equal("ping", b:receive())
    end
    assert.is_false(stuck:ready())
    stuck:kill()
    assert(far)
  end)

  it("that sends while nobody reads does not make the loop spin", function()
    local near, far, _ <close> = sockets.pair()
    local reader = sockets.start(near.receive, near)
    assert(far:send("one\n"))
    assert.equal("one", reader:get())
    assert(far:send("two\n"))
    local before = moonlet.stats().polls
    moonlet.sleep(0.05)
    assert.is_true(moonlet.stats().polls - before < 40)
    assert.equal("two", near:receive())
  end)

  it("that closes while nobody reads does not make the loop spin", function()
    local near, far, _ <close> = sockets.pair()
    local reader = sockets.start(near.receive, near)
    assert(far:send("one\n"))
    assert.equal("one", reader:get())
    far:close()
    local before = moonlet.stats().polls
    moonlet.sleep(0.05)
    assert.is_true(moonlet.stats().polls - before < 40)
  end)

  it("that is gone sends no signal: SIGPIPE is ignored", function()
    sockets.run [[
      local a, b = socket.socketpair()
      b:close()
      assert(select(2, a:send("x")) == "closed")
      local server = assert(socket.bind("127.0.0.1", 0))
      local near = assert(socket.connect("127.0.0.1", (select(2, server:getsockname()))))
      server:accept():close()
      for _ = 1, 10 do
        near:send("x")
        moonlet.sleep(0.001)
      end
      assert(select(2, near:send("x")) == "closed")
    ]]
  end)
end)

describe("moonlet.socket, out of descriptors:", function()
  local limited = [[
    local sockets = require "support.sockets"
    local server, port = sockets.listen()
    local hold = {}
    local function exhaust()
      for i = 1, 1000 do
        local file = io.open("/dev/null")
        if not file then return end
        hold[i] = file
      end
      error "the limit does not hold"
    end
    local function release(count)
      for _ = 1, count do
        table.remove(hold):close()
      end
    end
  ]]

  local function with_limit(code)
    local script = os.tmpname()
    local _ <close> = setmetatable({}, { __close = function() os.remove(script) end })
    local file <close> = assert(io.open(script, "w"))
    file:write(([[
      package.path, package.cpath = %q, %q
      local moonlet = require "moonlet"
      local socket = require "moonlet.socket"
    ]]):format("spec/?.lua;spec/?/init.lua;" .. package.path, package.cpath), limited, code)
    file:close()
    local pipe = assert(io.popen(("ulimit -n 48; timeout 20 '%s' %s 2>&1"):format(
      support.interpreter, script)))
    local text = pipe:read("a")
    pipe:close()
    return text
  end

  it("accept goes on when one is free again", function()
    assert.equal("waiting\naccepted\n", with_limit [[
      local near = assert(socket.connect("127.0.0.1", port))
      exhaust()
      local acceptor = moonlet.spawn(server.accept, server)
      moonlet.sleep(0.05)
      print(acceptor:ready() and "ready" or "waiting")
      release(2)
      local far = acceptor:get()
      print(far and "accepted")
    ]])
  end)

  it("accept keeps to its timeout, and to its greenlet", function()
    assert.equal("Too many open files 24\nToo many open files 24\nToo many open files 24\n" ..
                 "already used\nclosed\n", with_limit [[
      local near = assert(socket.connect("127.0.0.1", port))
      exhaust()
      for _, limit in ipairs { { 0 }, { 0.03 }, { 0.03, "t" } } do
        server:settimeout()
        server:settimeout(table.unpack(limit))
        local _, message, number = server:accept()
        print(message, number)
      end
      server:settimeout()
      server:settimeout(nil, "t")
      local acceptor = moonlet.spawn(server.accept, server)
      moonlet.sleep(0.02)
      local _, err = pcall(server.accept, server)
      print(err:match("already used"))
      server:close()
      print((select(2, acceptor:get())))
    ]]:gsub("\t", " "))
  end)

  it("the others say so", function()
    assert.equal(("Too many open files\n"):rep(6), with_limit [[
      exhaust()
      print((select(2, socket.tcp4())))
      print((select(2, socket.udp6())))
      print((select(2, socket.socketpair())))
      print((select(2, socket.connect("127.0.0.1", port))))
      print((select(2, socket.connect("127.0.0.1", port, "127.0.0.1"))))
      print((select(2, socket.bind("127.0.0.1", 0))))
    ]])
  end)
end)

describe("moonlet.socket, a greenlet killed", function()
  sockets.watch_descriptors(before_each, after_each)

  it("in accept leaves the next client to others", function()
    local server <close>, port = sockets.listen()
    for _ = 1, 3 do
      local acceptor = sockets.start(server.accept, server)
      acceptor:kill()
    end
    local acceptor = sockets.start(server.accept, server)
    local near <close> = socket.connect("127.0.0.1", port)
    local far <close> = acceptor:get()
    assert.same({ near:getsockname() }, { far:getpeername() })
  end)

  it("when its client has come already leaves that to the next", function()
    local server <close>, port = sockets.listen()
    local acceptor = sockets.start(server.accept, server)
    local near <close> = socket.tcp()
    near:settimeout(0) -- it does not wait: the acceptor has not run when it is killed
    near:connect("127.0.0.1", port)
    acceptor:kill()
    server:settimeout(5)
    local far <close> = assert(server:accept())
    assert.same({ near:getsockname() }, { far:getpeername() })
  end)

  for _, place in ipairs(places) do
    it("in " .. place.name .. " leaves no descriptor open", function()
      local hole <close> = sockets.black_hole()
      local server <close>, port = sockets.listen()
      local before = sockets.count_descriptors()
      for _, call in ipairs {
        function() socket.connect("127.0.0.1", hole.port) end,
        function() socket.create_connection({ "127.0.0.1", hole.port }, 20) end,
        function() server:accept() end,
      } do
        local victim = sockets.start(place.run, call)
        assert.is_false(victim:ready())
        victim:kill()
        local limit = moonlet.Timeout(0.001)
        assert.equal(limit, support.error_of(limit.run, limit, place.run, call))
      end
      collectgarbage()
      collectgarbage()
      assert.is_true(sockets.count_descriptors() <= before)
      local near <close> = socket.connect("127.0.0.1", port)
      place.run(function()
        server:accept():close()
      end)
      assert(near)
    end)
  end
end)

describe("moonlet.socket, a finalizer", function()
  local function in_finalizer(f)
    local ok, err
    local done = false
    setmetatable({}, { __gc = function()
      ok, err = pcall(f)
      done = true
    end })
    repeat
      collectgarbage()
    until done
    return ok, err
  end

  it("may send and receive what needs no wait, and close; to wait is an error", function()
    local near, far, _ <close> = sockets.pair()
    assert.is_true(in_finalizer(function()
      assert(near:send("bye\n"))
    end))
    assert.equal("bye", far:receive())
    for _, call in ipairs {
      function() near:receive() end,
      function() near:send(("x"):rep(64 << 20)) end,
      function() socket.udp4():receive() end,
      function() socket.wait_read(near) end,
    } do
      local ok, err = in_finalizer(call)
      assert.is_false(ok)
      assert.matches("finalizer", err)
    end
    assert.is_true(in_finalizer(function()
      near:settimeout(0)
      assert(select(2, near:receive()) == "timeout")
      near:close()
    end))
  end)

  it("at the end of the program does no harm", function()
    for _, exit in ipairs { "", "os.exit(true, true)" } do
      assert.equal("closed\nclosed\n", support.run_script([[
        local first = setmetatable({}, { __gc = function(self)
          self.check()
        end })
        local socket = require "moonlet.socket"
        local a, b = socket.socketpair()
        local udp = socket.udp4()
        a:settimeout(1, "t")
        first.check = function()
          a:send("x")
          print((select(2, b:receive())))
          print((select(2, udp:receive())))
          a:getstats()
          a:setstats(1, 2, 3)
          a:settimeout(1)
          a:receive(2)
          pcall(a.setfd, a, -1)
          a:connect("x")
          tostring(a)
          a:close()
        end
      ]] .. exit).stdout)
    end
  end)
end)

describe("moonlet.socket, in large numbers:", function()
  it("10,000 connections at once", function()
    local text = sockets.run([[
      local pipe = io.popen("ulimit -n")
      local limit = pipe:read("n") or 1024
      pipe:close()
      local count = math.min(10000, (limit - 50) // 2)
      local server = assert(socket.bind("127.0.0.1", 0, 4096))
      local host, port = server:getsockname()
      local function serve(client)
        local line = client:receive()
        client:send(line .. " back\n")
        client:receive()
        client:close()
      end
      moonlet.spawn(function()
        for i = 1, count do
          moonlet.spawn(serve, assert(server:accept()))
        end
      end)
      local all, answered, list = require("moonlet.event").Event(), 0, {}
      for i = 1, count do
        list[i] = moonlet.spawn(function()
          local sock <close> = assert(socket.connect(host, port))
          assert(sock:send(i .. "\n"))
          assert(sock:receive() == i .. " back")
          answered = answered + 1
          all:wait()
        end)
        if i % 100 == 0 then
          moonlet.sleep(0)
        end
      end
      while answered < count do
        moonlet.sleep(0.01)
      end
      all:set()
      for _, g in ipairs(list) do
        g:get()
      end
      print(answered == count)
    ]], { timeout = support.sanitized and 120 or 25 })
    assert.equal("true\n", text)
  end)
end)
