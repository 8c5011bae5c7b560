local moonlet = require "moonlet"
local pool = require "moonlet.pool"
local queue = require "moonlet.queue"
local server = require "moonlet.server"
local servers = require "support.servers"
local socket = require "moonlet.socket"
local support = require "support"

local DatagramServer = server.DatagramServer
local started, HERE = servers.started, servers.HERE

describe("moonlet.server.DatagramServer", function()
  local function client_of(it)
    local client = assert(socket.udp())
    client:settimeout(10)
    assert(client:setpeername(it.address[1], it.address[2]))
    return client
  end

  -- A server that sends what it gets back.
  local function echo_server(opts)
    local it
    it = started(DatagramServer, HERE, function(data, address)
      assert(it:sendto(data, address))
    end, opts)
    return it
  end

  it("calls handle(data, address) for each datagram, and sends", function()
    local it <close> = echo_server()
    local client <close> = client_of(it)
    for i = 1, 5 do
      assert(client:send("datagram " .. i))
      assert.equal("datagram " .. i, client:receive())
    end
  end)

  it("receives 8192 bytes of one", function()
    local sizes = queue.Queue()
    local it <close> = started(DatagramServer, HERE, function(data)
      sizes:put(#data)
    end)
    local client <close> = client_of(it)
    assert(client:send(("x"):rep(8192)))
    assert.equal(8192, sizes:get())
    assert(client:send(("x"):rep(9000)))
    assert.equal(8192, sizes:get())
    assert(client:send(""))
    assert.equal(0, sizes:get())
  end)

  it("gives an address that sendto takes", function()
    local addresses = queue.Queue()
    local it <close> = started(DatagramServer, HERE, function(_, address)
      addresses:put(address)
    end)
    local client <close> = client_of(it)
    local host, port = client:getsockname()
    assert(client:send("x"))
    assert.same({ host, port }, addresses:get())
    assert.equal(1, it:sendto("back", { host, port }))
    assert.equal("back", client:receive())
    assert.equal(1, it:sendto("again", host, port))
    assert.equal("again", client:receive())
  end)

  it("lets greenlets send at the same time", function()
    local it <close> = echo_server()
    local client <close> = client_of(it)
    local target = { client:getsockname() }
    local busy = pool.Group()
    for i = 1, 20 do
      busy:spawn(function()
        assert(it:sendto(("%d"):format(i):rep(100), target))
      end)
    end
    local got = 0
    while got < 20 do
      assert(client:receive())
      got = got + 1
    end
    busy:join()
  end)

  it("bounds its handlers by spawn, and reports errors", function()
    local errors = support.uncaught()
    local running, most = 0, 0
    local it <close> = started(DatagramServer, HERE, function(data)
      running = running + 1
      most = math.max(most, running)
      moonlet.sleep(0.001)
      running = running - 1
      error("bad " .. data)
    end, { spawn = 2 })
    local client <close> = client_of(it)
    for i = 1, 5 do
      assert(client:send(tostring(i)))
    end
    support.eventually(function() return #errors == 5 end)
    assert.equal(2, most)
    assert.matches("bad 1", errors[1].err)
  end)

  it("that is stopped has its port no more", function()
    local it = echo_server()
    local client <close> = client_of(it)
    it:stop()
    assert(client:send("x"))
    assert.same({ nil, "connection refused" }, { (client:receive()), "connection refused" })
    assert.same({ nil, "closed" }, { it:sendto("x", { "127.0.0.1", 1 }) })
    local other <close> = started(DatagramServer, it.address, print)
    assert.same(it.address, other.address)
  end)

  it("goes on when somebody it has sent to is gone", function()
    local it <close> = echo_server()
    local gone = client_of(it)
    local target = { gone:getsockname() }
    gone:close()
    for _ = 1, 3 do
      it:sendto("x", target)
    end
    local client <close> = client_of(it)
    assert(client:send("hi"))
    assert.equal("hi", client:receive())
  end)

  it("says that a port is taken", function()
    local it <close> = echo_server()
    local ok, message = DatagramServer(it.address, print):start()
    assert.is_nil(ok)
    assert.equal("address already in use: 127.0.0.1:" .. it.address[2], message)
  end)

  it("may have a unix socket", function()
    local path, own = os.tmpname(), os.tmpname()
    os.remove(path)
    os.remove(own)
    local it
    it = started(DatagramServer, { path = path }, function(data, address)
      assert(it:sendto(data:upper(), address))
    end)
    local client <close> = socket.unix.dgram()
    client:settimeout(10)
    assert(client:bind(own))
    assert(client:connect(path))
    assert(client:send("hi"))
    assert.equal("HI", client:receive())
    it:stop()
    os.remove(own)
  end)

  it("may have a socket that is given, if it is one for datagrams", function()
    local sock = assert(socket.udp())
    assert(sock:setsockname("127.0.0.1", 0))
    local it = started(DatagramServer, sock, function() end)
    assert.equal("127.0.0.1", it.address[1])
    it:stop()
    assert.equal(-1, sock:getfd())
    local listener <close> = assert(socket.bind("127.0.0.1", 0))
    assert.error_matches(function() DatagramServer(listener, print) end,
                         "datagram socket expected")
  end)

  it("may be subclassed", function()
    local Echo = DatagramServer:extend("Echo")
    function Echo:handle(data, address)
      self:sendto(data, address)
    end
    local it <close> = started(Echo, HERE)
    local client <close> = client_of(it)
    assert(client:send("x"))
    assert.equal("x", client:receive())
    assert.matches("^<Echo 127", tostring(it))
  end)
end)
