-- StreamServer with TLS.

local certificates = require "support.certificates"
local moonlet = require "moonlet"
local server = require "moonlet.server"
local socket = require "moonlet.socket"
local ssl = require "moonlet.ssl"
local support = require "support"

local StreamServer = server.StreamServer

describe("a StreamServer with TLS", function()
  local folder

  setup(function()
    folder = certificates.folder()
    folder:root("ca")
    folder:issue("server", { names = "DNS:localhost,IP:127.0.0.1" })
  end)

  teardown(function()
    folder:remove()
  end)

  local function echo(client)
    for line in function() return client:receive() end do
      client:send(line .. "\n")
    end
  end

  local function serve(handle, opts)
    opts = opts or {}
    opts.ssl = opts.ssl or folder:params("server", "server")
    local it = StreamServer({ "127.0.0.1", 0 }, handle, opts)
    assert(it:start())
    return it
  end

  local function connect(it)
    local conn = assert(ssl.connect("127.0.0.1", it.address[2], folder:params("client"), 10))
    return conn
  end

  local function connect_plainly(it)
    local client = assert(socket.create_connection(it.address, 10))
    return client
  end

  local function ask(client, line)
    assert(client:send(line .. "\n"))
    return client:receive()
  end

  it("hands connections after their handshake to handlers, with the address", function()
    local it <close> = serve(function(client, address)
      client:send(("%s %s %d\n"):format(client:info("protocol"), address[1], address[2]))
      echo(client)
    end)
    local client <close> = connect(it)
    local host, port = client:getsockname()
    assert.equal(("TLSv1.3 %s %d"):format(host, port), client:receive())
    assert.equal("hi", ask(client, "hi"))
  end)

  it("ends connections in order", function()
    local it <close> = serve(function(client)
      client:send("all of it")
    end)
    local client <close> = connect(it)
    assert.same({ "all of it" }, { client:receive("*a") })
  end)

  it("may be given a context instead of parameters", function()
    local context = assert(ssl.newcontext(folder:params("server", "server")))
    local it <close> = serve(echo, { ssl = context })
    local client <close> = connect(it)
    assert.equal("hi", ask(client, "hi"))
  end)

  it("has certificates for several names", function()
    folder:issue("other", { names = "DNS:other.test" })
    local it <close> = serve(function(client)
      client:send(tostring(client:getsniname()))
    end, { sni = { ["Other.test"] = folder:params("server", "other") } })
    local function seen(name)
      local client <close> = connect_plainly(it)
      local params = folder:params("client")
      params.servername = name
      local conn = assert(ssl.wrap(client, params))
      assert(conn:dohandshake())
      return conn:receive("*a")
    end
    assert.equal("other.test", seen("other.test"))
    assert.equal("localhost", seen("localhost"))
  end)

  it("refuses names that make no sense", function()
    local params = folder:params("server", "server")
    for message, opts in pairs {
      ["sni: needs the option ssl"] = { sni = {} },
      ["sni: table expected, got boolean"] = { sni = true, ssl = params },
      ["sni: a: table or context expected, got string"] = { sni = { a = "x" }, ssl = params },
    } do
      assert.truthy(support.error_of(StreamServer, 0, echo, opts):find(message, 1, true), message)
    end
  end)

  it("serves others while one is slow with its handshake", function()
    local it <close> = serve(echo)
    local slow <close> = connect_plainly(it)
    assert(slow:send("\22\3\1"))
    for i = 1, 3 do
      local client <close> = connect(it)
      assert.equal("hi " .. i, ask(client, "hi " .. i))
    end
  end)

  it("drops a client that takes too long for its handshake, and reports it", function()
    local errors = support.uncaught()
    local calls = 0
    local it <close> = serve(function()
      calls = calls + 1
    end, { handshake_timeout = 0.02 })
    local slow <close> = connect_plainly(it)
    assert.equal("closed", select(2, slow:receive()))
    support.eventually(function() return #errors > 0 end)
    assert.matches("handshake: timeout", errors[1].err)
    assert.equal(0, calls)
    assert.equal(10, StreamServer(0, echo).handshake_timeout)
  end)

  it("bounds the handshake only", function()
    local it <close> = serve(function(client)
      moonlet.sleep(0.3)
      client:send(client:receive())
    end, { handshake_timeout = 0.25 })
    local client <close> = connect(it)
    moonlet.sleep(0.35)
    assert(client:send("late\n"))
    assert.equal("late", client:receive("*a"))
  end)

  it("drops a client that does not talk TLS, reports it, and goes on", function()
    local errors = support.uncaught()
    local it <close> = serve(echo)
    local plain <close> = connect_plainly(it)
    assert(plain:send("GET / HTTP/1.0\r\n\r\n"))
    plain:receive("*a")
    support.eventually(function() return #errors > 0 end)
    assert.matches("handshake: ", errors[1].err)
    local client <close> = connect(it)
    assert.equal("hi", ask(client, "hi"))
    assert.equal(1, #errors)
  end)

  it("has nothing to report of a client that leaves before the handshake", function()
    local it <close> = serve(echo)
    connect_plainly(it):close()
    local client <close> = connect(it)
    assert.equal("hi", ask(client, "hi"))
  end)

  it("counts handshakes as handlers: bounded by spawn, killed by stop", function()
    local it = serve(echo, { spawn = 1 })
    local slow <close> = connect_plainly(it)
    support.eventually(function() return tostring(it):find("1 handlers", 1, true) end)
    local other <close> = connect_plainly(it)
    support.turns(10)
    assert.matches("1 handlers", tostring(it))
    assert.is_false(it:stop(0))
    assert.equal("closed", select(2, slow:receive()))
    assert.equal("closed", select(2, other:receive()))
  end)

  it("closes the connection when a handler fails", function()
    local errors = support.uncaught()
    local it <close> = serve(function()
      error("broken handler")
    end)
    local client <close> = connect(it)
    client:receive("*a")
    support.eventually(function() return #errors > 0 end)
    assert.matches("broken handler", errors[1].err)
    assert.matches("server_tls_spec.lua", errors[1].traceback)
  end)

  it("moves large data", function()
    local it <close> = serve(function(client)
      client:send((client:receive(3000000)))
    end)
    local client <close> = connect(it)
    local data = ("0123456789"):rep(300000)
    local sender = moonlet.spawn(client.send, client, data)
    assert.is_true(data == client:receive("*a"))
    sender:join()
  end)

  it("refuses a TLS connection as a listener, and parameters that are wrong", function()
    local it <close> = serve(echo)
    local client <close> = connect(it)
    assert.error_matches(function() StreamServer(client, echo) end, "cannot be one of TLS")
    assert.error_matches(function() StreamServer(0, echo, { ssl = {
      certificate = "/nowhere.pem", key = "/nowhere.key",
    } }) end, "bad argument #3 to 'StreamServer' %(ssl: certificate '/nowhere.pem'")
    assert.error_matches(function() StreamServer(0, echo, { ssl = true }) end,
                         "ssl: table or context expected")
  end)

  it("works with workers", function()
    local params = folder:params("server", "server")
    local result = support.run_script(([[
      local moonlet = require "moonlet"
      local server = require "moonlet.server"
      local ssl = require "moonlet.ssl"
      local it = server.StreamServer({ "127.0.0.1", 0 }, function(client)
        client:send("from a worker")
      end, { workers = 2, ssl = { certificate = %q, key = %q } })
      assert(it:start())
      for _ = 1, 4 do
        local client <close> = ssl.connect("127.0.0.1", it.address[2],
                                           { mode = "client", cafile = %q }, 10)
        print(client:receive("*a"))
      end
      it:stop()
    ]]):format(params.certificate, params.key, folder:file("ca.pem")))
    assert.equal("", result.stderr)
    assert.equal(("from a worker\n"):rep(4), result.stdout)
  end)

  it("serves curl", function()
    local it <close> = serve(function(client)
      repeat
        local line = client:receive()
      until line == "" or line == nil
      client:send("HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nhello")
    end)
    local out = folder:file("out")
    os.execute(("(curl -s --cacert %s https://localhost:%d/ >%s; touch %s.done) &"):format(
                 folder:file("ca.pem"), it.address[2], out, out))
    support.eventually(function() return os.rename(out .. ".done", out .. ".done") end)
    local file <close> = assert(io.open(out))
    assert.equal("hello", file:read("a"))
  end)
end)
