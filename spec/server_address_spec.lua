-- Where servers listen, and what they refuse to be made of.

local queue = require "moonlet.queue"
local server = require "moonlet.server"
local servers = require "support.servers"
local socket = require "moonlet.socket"
local support = require "support"

local StreamServer = server.StreamServer
local started, serve, connect, read_all =
  servers.started, servers.serve, servers.connect, servers.read_all
local echo, ask, HERE = servers.echo, servers.ask, servers.HERE

describe("the arguments of a StreamServer", function()
  describe("an address", function()
    local function address_of(where)
      local it = StreamServer(where, echo)
      return it.address
    end

    it("may be a table, a port, or a string in one of many forms", function()
      assert.same({ "", 8080 }, address_of(8080))
      assert.same({ "", 8080 }, address_of("8080"))
      assert.same({ "", 8080 }, address_of(":8080"))
      assert.same({ "", 80 }, address_of("*:80"))
      assert.same({ "", 80 }, address_of({ "", 80 }))
      assert.same({ "localhost", 80 }, address_of("localhost:80"))
      assert.same({ "::1", 80 }, address_of("[::1]:80"))
      assert.same({ path = "/tmp/x" }, address_of("unix:/tmp/x"))
    end)

    it("that is none is an error of who made the server", function()
      for _, where in ipairs { "rubbish", ":", "host:99999", -1, {}, { 80 }, true, 1.5 } do
        local err = support.error_of(function()
          local it = StreamServer(where, echo)
          return it
        end)
        assert.matches("^spec/server_address_spec.lua:%d+: bad argument #1 to 'StreamServer'", err)
      end
      assert.error_matches(function() StreamServer(nil, echo) end, "bad argument #1")
    end)

    it("without a host is that of all addresses, of IPv4 too", function()
      local it <close> = started(StreamServer, 0, function(client)
        client:send("hi")
      end)
      local port = it.address[2]
      assert.equal("hi", read_all(assert(socket.connect("127.0.0.1", port))))
      if it.address[1] == "::" then
        assert.equal("hi", read_all(assert(socket.connect("::1", port))))
      end
      local other = StreamServer({ "127.0.0.1", port }, echo)
      assert.is_nil((other:start()))
    end)

    it("may be a name", function()
      local it <close> = started(StreamServer, "localhost:0", function(client)
        client:send("hi")
      end)
      assert.equal("127.0.0.1", it.address[1])
      assert.equal("hi", read_all(connect(it)))
    end)

    it("may be a listening socket, which is closed at the end", function()
      local listener = assert(socket.bind("127.0.0.1", 0))
      local it = started(StreamServer, listener, function(client)
        client:send("hi")
      end)
      assert.same({ listener:getsockname() }, { it.address[1], it.address[2], "inet" })
      assert.equal("hi", read_all(connect(it)))
      it:stop()
      assert.equal(-1, listener:getfd())
    end)

    it("as a socket must listen, and takes no backlog besides", function()
      local listener <close> = assert(socket.bind("127.0.0.1", 0))
      local master <close> = assert(socket.tcp())
      local datagrams <close> = assert(socket.udp())
      assert.error_matches(function() StreamServer(listener, echo, { backlog = 5 }) end, "backlog")
      assert.error_matches(function() StreamServer(listener, echo, { reuse_port = true }) end,
                           "reuse_port")
      assert.error_matches(function() StreamServer(master, echo) end, "listening socket expected")
      assert.error_matches(function() StreamServer(datagrams, echo) end,
                           "listening socket expected")
    end)

    it("may be a unix socket's path; its file goes with the server", function()
      local path = os.tmpname()
      os.remove(path)
      local addresses = queue.Queue()
      local it = started(StreamServer, "unix:" .. path, function(client, address)
        addresses:put(address)
        client:send("hi")
      end)
      assert.same({ path = path }, it.address)
      assert.equal("hi", read_all(connect(it)))
      assert.same({ path = "" }, addresses:get())
      assert.matches("unix:" .. path, tostring(it), 1, true)
      local ok, message = StreamServer("unix:" .. path, echo):start()
      assert.is_nil(ok)
      assert.equal("address already in use: unix:" .. path, message)
      it:stop()
      assert.is_nil((os.rename(path, path)))
    end)

    it("replaces the file of a server that is gone, and nothing else", function()
      local path = os.tmpname()
      local other = StreamServer("unix:" .. path, echo)
      assert.is_nil((other:start()))
      assert.is_true((os.remove(path)))
      local left = socket.unix()
      assert(left:bind(path))
      left:close()
      assert.is_true((other:start()))
      local client = connect(other)
      assert.equal("x", ask(client, "x"))
      client:close()
      other:stop()
    end)

    it("may be shared by servers that ask for reuse_port", function()
      local a <close> = serve(echo, { reuse_port = true })
      local b <close> = started(StreamServer, a.address, echo, { reuse_port = true })
      assert.same(a.address, b.address)
    end)
  end)

  it("refuses options and handlers of the wrong kind", function()
    for message, opts in pairs {
      ["spawn: a positive integer"] = { spawn = 0 },
      ["got 1.5"] = { spawn = 1.5 },
      ["or \"raw\" expected, got string"] = { spawn = "cooked" },
      ["max_accept: must be at least 1"] = { max_accept = 0 },
      ["max_accept: integer expected, got string"] = { max_accept = "1" },
      ["backlog: integer expected"] = { backlog = 1.5 },
      ["stop_timeout: must be at least 0"] = { stop_timeout = -1 },
      ["handshake_timeout: number expected, got boolean"] = { handshake_timeout = true },
      ["ssl: table or context expected, got string"] = { ssl = "cert.pem" },
    } do
      local err = support.error_of(StreamServer, HERE, echo, opts)
      assert.truthy(err:find("bad argument #3 to 'StreamServer' (" .. message, 1, true) or
                    err:find(message, 1, true), err)
    end
    assert.error_matches(function() StreamServer(HERE) end,
                         "bad argument #2 to 'StreamServer' %(function expected, got no value")
    assert.error_matches(function() StreamServer(HERE, 5) end, "function expected, got number")
    assert.error_matches(function() StreamServer(HERE, echo, 5) end, "table expected, got number")
  end)
end)
