local moonlet = require "moonlet"
local socket = require "moonlet.socket"
local sockets = require "support.sockets"
local support = require "support"

-- A name for a socket in the file system.
local function new_path()
  local path = os.tmpname()
  os.remove(path)
  return path
end

describe("moonlet.socket, unix streams:", function()
  local path

  after_each(function()
    os.remove(path)
  end)

  sockets.watch_descriptors(before_each, after_each)

  before_each(function()
    path = new_path()
  end)

  local function listen()
    local server = socket.unix()
    assert.equal(1, server:bind(path))
    assert.equal(1, server:listen())
    return server
  end

  it("connect by the path of a server", function()
    local server <close> = listen()
    local near <close> = socket.unix()
    assert.equal(1, near:connect(path))
    local far <close> = server:accept()
    assert.equal(6, near:send("hello\n"))
    assert.equal("hello", far:receive())
    assert.equal("unix", far:getfamily())
    assert.equal(path, (near:getpeername()))
    assert.equal("", (far:getpeername()))
    assert.same({ "unix{client}", "unix{client}", "unix{server}" },
                { near.class, far.class, server.class })
  end)

  it("are made by stream and tcp too, and datagrams by dgram and udp", function()
    for _, name in ipairs { "stream", "tcp" } do
      local sock <close> = socket.unix[name]()
      assert.equal("unix{master}", sock.class)
    end
    for _, name in ipairs { "dgram", "udp" } do
      local sock <close> = socket.unix[name]()
      assert.equal("unix{unconnected}", sock.class)
    end
  end)

  it("may have a name in the abstract space", function()
    local name = "\0moonlet " .. path
    local server <close> = socket.unix()
    assert.equal(1, server:bind(name))
    assert.equal(1, server:listen())
    assert.equal(name, (server:getsockname()))
    local near <close> = assert(socket.create_connection("unix:" .. name))
    assert.equal(1, near:send("x"))
    local far <close> = server:accept()
    assert.equal("x", far:receive(1))
    assert.equal(name, (near:getpeername()))
  end)

  it("say why they cannot be had", function()
    local sock <close> = socket.unix()
    assert.same({ nil, "No such file or directory", 2 }, { sock:connect(path) })
    listen():close()
    assert.same({ nil, "connection refused", 111 }, { sock:connect(path) })
    assert.same({ nil, "address already in use", 98 }, { sock:bind(path) })
    assert.same({ nil, "No such file or directory", 2 }, { sock:bind("/no/such/folder/x") })
  end)

  it("refuse paths that are none", function()
    local sock <close> = socket.unix()
    local datagram <close> = socket.unix.dgram()
    for _, value in ipairs { ("x"):rep(108), "a\0b", {} } do
      for name, object in pairs { bind = sock, connect = sock, setpeername = datagram } do
        assert.matches("bad argument #2 to", support.error_of(object[name], object, value))
      end
      assert.matches("bad argument #2 to", support.error_of(function()
        datagram:sendto("x", value)
      end))
    end
    assert.is_nil((sock:connect(("x"):rep(107))))
  end)

  it("wait for room in the server's backlog", function()
    local server <close> = socket.unix()
    assert(server:bind(path))
    assert(server:listen(0))
    local first <close> = socket.unix()
    assert.equal(1, first:connect(path))
    local second <close> = socket.unix()
    second:settimeout(0.02)
    assert.same({ nil, "timeout" }, { second:connect(path) })
    second:settimeout(0)
    assert.same({ nil, "timeout" }, { second:connect(path) })
    second:settimeout()
    local connecting = sockets.start(second.connect, second, path)
    assert.is_false(connecting:ready())
    server:accept():close()
    assert.equal(1, connecting:get())
    local third <close> = socket.unix()
    connecting = sockets.start(third.connect, third, path)
    third:close()
    assert.same({ nil, "closed" }, { connecting:get() })
    local fourth <close> = socket.unix()
    connecting = sockets.start(fourth.connect, fourth, path)
    assert.matches("already used", support.error_of(fourth.connect, fourth, path))
    connecting:kill()
    server:accept():close()
  end)

  it("end an accept when they are closed", function()
    local server = listen()
    local acceptor = sockets.start(server.accept, server)
    server:close()
    assert.same({ nil, "closed" }, { acceptor:get() })
  end)

  it("are what create_connection makes of unix: addresses", function()
    local server <close> = listen()
    for _, form in ipairs { "unix:" .. path, { path = path } } do
      local near <close> = assert(socket.create_connection(form, 5))
      assert.same({ 5, -1 }, { near:gettimeout() })
      server:accept():close()
    end
  end)
end)

describe("moonlet.socket, socketpair:", function()
  sockets.watch_descriptors(before_each, after_each)

  it("makes two that are connected", function()
    local a, b = socket.socketpair()
    local _ <close> = sockets.closing(a, b)
    local reader = sockets.start(b.receive, b)
    assert.equal(3, a:send("hi\n"))
    assert.equal("hi", reader:get())
    assert.equal(1, b:send("x"))
    assert.equal("x", a:receive(1))
    a:close()
    assert.same({ nil, "closed", "" }, { b:receive() })
  end)
end)

describe("moonlet.socket, unix datagrams:", function()
  local one, two

  after_each(function()
    os.remove(one)
    os.remove(two)
  end)

  sockets.watch_descriptors(before_each, after_each)

  before_each(function()
    one, two = new_path(), new_path()
  end)

  it("go from path to path, and say whence", function()
    local a <close> = socket.unix.dgram()
    local b <close> = socket.unix.dgram()
    assert.equal(1, a:bind(one))
    assert.equal(1, b:bind(two))
    assert.equal(1, a:sendto("hello", two))
    assert.same({ "hello", one }, { b:receivefrom() })
    assert.equal(1, b:setpeername(one))
    assert.equal("unix{connected}", b.class)
    assert.equal(1, b:send("back"))
    assert.equal("back", a:receive())
  end)

  it("without a name send, and are nobody", function()
    local a <close> = socket.unix.dgram()
    local b <close> = socket.unix.dgram()
    assert(b:bind(two))
    assert.equal(1, a:sendto("x", two))
    local data, from = b:receivefrom()
    assert.equal("x", data)
    assert.truthy(from == nil or from == "")
  end)

  it("may be larger than what the internet carries", function()
    local a <close> = socket.unix.dgram()
    local b <close> = socket.unix.dgram()
    assert(b:bind(two))
    local reader = sockets.start(b.receive, b, 200000)
    assert.equal(1, a:sendto(("x"):rep(150000), two))
    assert.equal(150000, #reader:get())
    assert.equal(1, a:sendto(("x"):rep(150000), two))
    assert.equal(100, #b:receive(100))
  end)

  it("without a peer wait until the receiver has room, too, and let the machine rest", function()
    local a <close> = socket.unix.dgram()
    local b <close> = socket.unix.dgram()
    assert(b:bind(two))
    a:settimeout(0.01)
    local count = 0
    while a:sendto("x", two) do
      count = count + 1
    end
    assert.same({ nil, "timeout" }, { a:sendto("x", two) })
    a:settimeout(nil)
    local polls = moonlet.stats().polls
    local sender = sockets.start(a.sendto, a, "last", two)
    moonlet.sleep(0.02)
    assert.is_true(moonlet.stats().polls - polls < 60)
    assert.is_false(sender:ready())
    for _ = 1, count do
      assert.equal("x", b:receive())
    end
    assert.equal(1, sender:get())
    assert.equal("last", b:receive())
  end)

  it("wait until the receiver has room, and are killed meanwhile", function()
    local a <close> = socket.unix.dgram()
    local b <close> = socket.unix.dgram()
    assert(b:bind(two))
    assert(a:setpeername(two))
    a:settimeout(0)
    local count = 0
    while a:send("x") do
      count = count + 1
    end
    assert.same({ nil, "timeout" }, { a:send("x") })
    a:settimeout(0.01)
    assert.same({ nil, "timeout" }, { a:send("x") })
    a:settimeout()
    local sender = sockets.start(a.send, a, "last")
    assert.is_false(sender:ready())
    assert.matches("already used", support.error_of(a.send, a, "x"))
    sender:kill()
    sender = sockets.start(a.send, a, "last")
    for _ = 1, count do
      assert.equal("x", b:receive())
    end
    assert.equal(1, sender:get())
    assert.equal("last", b:receive())
    sender = moonlet.spawn(b.receive, b)
    support.turns()
    b:close()
    assert.same({ nil, "closed" }, { sender:get() })
  end)
end)
