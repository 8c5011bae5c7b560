local moonlet = require "moonlet"
local pool = require "moonlet.pool"
local queue = require "moonlet.queue"
local server = require "moonlet.server"
local socket = require "moonlet.socket"
local support = require "support"

local StreamServer, DatagramServer = server.StreamServer, server.DatagramServer

local HERE = { "127.0.0.1", 0 }

local function started(class, ...)
  local it = class(...)
  assert(it:start())
  return it
end

local function serve(handle, opts)
  return started(StreamServer, HERE, handle, opts)
end

local function connect(to)
  local client = assert(socket.create_connection(to.address, 10))
  return client
end

-- What the server sends until it closes.
local function read_all(client)
  local data, message, partial = client:receive("*a")
  client:close()
  return data or partial, message
end

local function echo(client)
  for line in function() return client:receive() end do
    client:send(line .. "\n")
  end
end

local function ask(client, line)
  assert(client:send(line .. "\n"))
  return client:receive()
end

-- A handler that says where it is, and waits until it is let go.
local function gate()
  local self = { entered = 0, ended = 0, open = queue.Channel() }
  function self.handle(client)
    self.entered = self.entered + 1
    local _ <close> = setmetatable({}, { __close = function()
      self.ended = self.ended + 1
    end })
    self.open:get()
    client:send("bye")
  end
  function self.wait(n)
    support.eventually(function()
      return self.entered >= n
    end)
  end
  return self
end

local function is_refused(to)
  local client, message = socket.create_connection(to.address, 10)
  return client == nil and message == "connection refused"
end

describe("moonlet.server.StreamServer", function()
  describe("a handler", function()
    it("is called with the client's socket and its address", function()
      local addresses = queue.Queue()
      local it <close> = serve(function(client, address)
        addresses:put(address)
        client:send("hello")
      end)
      local client = connect(it)
      local host, port = client:getsockname()
      assert.equal("hello", read_all(client))
      assert.same({ host, port }, addresses:get())
    end)

    it("serves many clients at a time", function()
      local it <close> = serve(echo)
      local clients = {}
      for i = 1, 50 do
        clients[i] = connect(it)
      end
      for i = 50, 1, -1 do
        assert.equal("to " .. i, ask(clients[i], "to " .. i))
        clients[i]:close()
      end
    end)

    it("may be a callable table", function()
      local it <close> = serve(setmetatable({}, { __call = function(_, client)
        client:send("called")
      end }))
      assert.equal("called", read_all(connect(it)))
    end)

    it("leaves a socket that is closed, also where another greenlet has it", function()
      local kept
      local it <close> = serve(function(client)
        kept = client
      end)
      assert.equal("", read_all(connect(it)))
      assert.equal("closed", select(2, kept:send("x")))
    end)

    it("may close the socket itself", function()
      local it <close> = serve(function(client)
        client:send("done")
        client:close()
      end)
      assert.equal("done", read_all(connect(it)))
    end)

    it("that fails is reported with its traceback, and its client closed; the server goes on",
       function()
         local errors = support.uncaught()
         local it <close> = serve(function(client)
           if client:receive() == "fail" then
             error("broken handler")
           end
           client:send("fine")
         end)
         for _ = 1, 3 do
           local client = connect(it)
           assert(client:send("fail\n"))
           assert.equal("", read_all(client))
         end
         local client = connect(it)
         assert(client:send("work\n"))
         assert.equal("fine", read_all(client))
         assert.equal(3, #errors)
         assert.matches("broken handler", errors[1].err)
         assert.matches("server_spec.lua", errors[1].traceback)
       end)

    it("that is killed leaves a closed socket and nothing to report", function()
      local handler
      local it <close> = serve(function(client)
        handler = moonlet.getcurrent()
        client:receive()
      end)
      local client = connect(it)
      support.eventually(function() return handler end)
      handler:kill()
      assert.equal("", read_all(client))
    end)

    it("is not called for a client that is gone before", function()
      local calls = 0
      local it <close> = serve(function()
        calls = calls + 1
      end)
      it:stop_accepting()
      local client = connect(it)
      client:setoption("linger", { on = true, timeout = 0 }) -- so that close resets
      client:close()
      it:start_accepting()
      assert.equal("", read_all(connect(it)))
      assert.equal(1, calls)
    end)
  end)

  describe("spawn", function()
    it("as a number bounds the handlers: the next client is accepted when one has ended",
       function()
         local doors = gate()
         local it <close> = serve(doors.handle, { spawn = 2 })
         local clients = {}
         for i = 1, 4 do
           clients[i] = connect(it)
         end
         doors.wait(2)
         support.turns(20)
         assert.equal(2, doors.entered)
         doors.open:put(true)
         doors.wait(3)
         support.turns(20)
         assert.equal(3, doors.entered)
         for _ = 1, 3 do
           doors.open:put(true)
         end
         for i = 1, 4 do
           assert.equal("bye", read_all(clients[i]))
         end
       end)

    it("as a Pool has the handlers in it, and what else is in there counts", function()
      local mine = pool.Pool(1)
      local other = mine:spawn(moonlet.sleep, 1000)
      local it <close> = serve(echo, { spawn = mine })
      local client = connect(it)
      assert(client:send("hi\n"))
      client:settimeout(0.02)
      assert.same({ nil, "timeout" }, { (client:receive()), (select(2, client:receive())) })
      client:settimeout(10)
      other:kill()
      assert.equal("hi", client:receive())
      assert.equal(1, #mine)
      client:close()
    end)

    it("as a Pool that is full lets the server be stopped", function()
      local mine = pool.Pool(1)
      local other = mine:spawn(moonlet.sleep, 1000)
      local it = serve(echo, { spawn = mine })
      local client = connect(it)
      support.turns(10)
      assert.is_true(it:stop())
      assert.is_false(other:dead()) -- not the server's
      assert.equal("", read_all(client))
      other:kill()
    end)

    it("as a Group has the handlers in it", function()
      local group = pool.Group()
      local it <close> = serve(echo, { spawn = group })
      local client = connect(it)
      assert.equal("x", ask(client, "x"))
      assert.equal(1, #group)
      client:close()
    end)

    it("that fails closes the client; the error is reported, accepting goes on later", function()
      local errors = support.uncaught()
      local group = pool.Group()
      local failures = 3
      function group:spawn(...)
        if failures > 0 then
          failures = failures - 1
          error("cannot spawn")
        end
        return pool.Group.spawn(self, ...)
      end
      local it <close> = serve(echo, { spawn = group })
      for _ = 1, 3 do
        assert.equal("", read_all(connect(it)))
      end
      local client = connect(it)
      assert.equal("x", ask(client, "x"))
      client:close()
      assert.equal(3, #errors)
      assert.matches("cannot spawn", errors[1].err)
    end)

    it([[as "raw" runs one handler after the other, where it accepts]], function()
      local doors = gate()
      local it <close> = serve(doors.handle, { spawn = "raw" })
      local a, b = connect(it), connect(it)
      doors.wait(1)
      support.turns(20)
      assert.equal(1, doors.entered)
      doors.open:put(true)
      assert.equal("bye", read_all(a))
      doors.wait(2)
      doors.open:put(true)
      assert.equal("bye", read_all(b))
    end)

    it([[as "raw" survives errors of handlers]], function()
      local errors = support.uncaught()
      local it <close> = serve(function(client)
        error("raw: " .. client:receive())
      end, { spawn = "raw" })
      for i = 1, 2 do
        local client = connect(it)
        assert(client:send(i .. "\n"))
        assert.equal("", read_all(client))
      end
      assert.equal(2, #errors)
      assert.matches("raw: 1", errors[1].err)
    end)

    it([[as "raw" lets a handler stop the server]], function()
      local it
      it = serve(function(client)
        client:send(tostring(it:stop()))
      end, { spawn = "raw" })
      assert.equal("true", read_all(connect(it)))
      assert.is_false(it.started)
    end)
  end)

  describe("max_accept", function()
    it("is how many clients are accepted before others get their turn", function()
      local accepted, most = 0, 0
      local it <close> = started(StreamServer, HERE, function()
        moonlet.sleep(0)
      end, { max_accept = 3 })
      it:stop_accepting()
      local clients = {}
      for i = 1, 10 do
        clients[i] = connect(it)
      end
      local serve_one = it._spawn
      function it:_spawn(...)
        accepted = accepted + 1
        return serve_one(self, ...)
      end
      local watcher = moonlet.spawn(function()
        while accepted < 10 do
          local before = accepted
          moonlet.sleep(0)
          most = math.max(most, accepted - before)
        end
      end)
      it:start_accepting()
      watcher:join()
      assert.equal(3, most)
      for i = 1, 10 do
        assert.equal("", read_all(clients[i]))
      end
    end)
  end)

  describe("start", function()
    it("finds a free port for 0, and tells which", function()
      local it = StreamServer(HERE, echo)
      assert.same({ "127.0.0.1", 0 }, it.address)
      assert.is_false(it.started)
      assert.is_true(it:start())
      assert.is_true(it.started)
      assert.equal("127.0.0.1", it.address[1])
      assert.is_true(it.address[2] > 0)
      assert.is_true(it:start())
      it:stop()
    end)

    it("returns why it fails, with the address, and leaves the server not started", function()
      local it <close> = serve(echo)
      local other = StreamServer(it.address, echo)
      local ok, message, errno = other:start()
      assert.is_nil(ok)
      assert.equal("address already in use: 127.0.0.1:" .. it.address[2], message)
      assert.equal(98, errno)
      assert.is_false(other.started)
      it:stop()
      assert.is_true(other:start())
      other:stop()
    end)

    it("fails for a host that has no address here, and for one that there is not", function()
      local ok, message = StreamServer("192.0.2.1:80", echo):start()
      assert.is_nil(ok)
      assert.matches("192.0.2.1:80", message)
      ok, message = StreamServer("name.invalid:80", echo):start()
      assert.is_nil(ok)
      assert.matches("name.invalid:80", message)
    end)

    -- A server whose start waits at a door, as for a name that is looked up.
    local function slow_starter()
      local it, door = StreamServer(HERE, echo), queue.Channel()
      local listen = it._listen
      function it:_listen(where)
        door:get()
        return listen(self, where)
      end
      return it, door, moonlet.spawn(it.start, it)
    end

    it("returns nil, closed if the server is closed before it has its address", function()
      local it, door, g = slow_starter()
      moonlet.sleep(0)
      it:close()
      door:put(true)
      assert.same({ nil, "closed" }, { g:get() })
      assert.is_false(it.started)
    end)

    it("that is killed meanwhile may be called again", function()
      local it, door, g = slow_starter()
      moonlet.sleep(0)
      g:kill()
      assert.is_false(it.started)
      local again = moonlet.spawn(it.start, it)
      door:put(true)
      assert.is_true(again:get())
      it:stop()
    end)

    it("may be called by two greenlets at a time", function()
      local it, door, g = slow_starter()
      local other = moonlet.spawn(it.start, it)
      moonlet.sleep(0)
      door:put(true)
      door:put(true)
      assert.is_true(g:get())
      assert.is_true(other:get())
      local client = connect(it)
      assert.equal("x", ask(client, "x"))
      client:close()
      it:stop()
    end)

    it("raises after the server was stopped, or closed", function()
      local it = serve(echo)
      it:stop()
      assert.error_matches(function() it:start() end, "cannot be started again")
      local other = StreamServer(HERE, echo)
      other:close()
      assert.error_matches(function() other:start() end, "cannot be started again")
    end)
  end)

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
        assert.matches("^spec/server_spec.lua:%d+: bad argument #1 to 'StreamServer'", err)
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

  describe("stop", function()
    it("accepts no more, and waits for handlers that end in time", function()
      local doors = gate()
      local it = serve(doors.handle)
      local client = connect(it)
      doors.wait(1)
      local stopper = moonlet.spawn(it.stop, it, 10)
      support.eventually(function() return it.stopping end)
      assert.is_true(is_refused(it))
      assert.is_false(stopper:dead())
      doors.open:put(true)
      assert.is_true(stopper:get())
      assert.equal("bye", read_all(client))
    end)

    it("kills the handlers that are left after the timeout", function()
      local doors = gate()
      local it = serve(doors.handle)
      local client = connect(it)
      doors.wait(1)
      assert.is_false(it:stop(0.01))
      assert.equal(1, doors.ended)
      assert.equal("", read_all(client))
    end)

    it("takes its timeout from the option stop_timeout, which is 1 s by default", function()
      assert.equal(1, StreamServer(HERE, echo).stop_timeout)
      local doors = gate()
      local it = serve(doors.handle, { stop_timeout = 0 })
      local client = connect(it)
      doors.wait(1)
      assert.is_false(it:stop())
      assert.equal(1, doors.ended)
      client:close()
    end)

    it("lets no accepted client slip through that has no handler yet", function()
      local it = serve(echo)
      local clients = {}
      it:stop_accepting()
      for i = 1, 5 do
        clients[i] = connect(it)
      end
      it:start_accepting()
      moonlet.sleep(0)
      it:stop(0)
      for i = 1, 5 do
        assert.equal("", read_all(clients[i]))
      end
    end)

    it("may be called twice, before start, and by several greenlets", function()
      local never = StreamServer(HERE, echo)
      assert.is_true(never:stop())
      local doors = gate()
      local it = serve(doors.handle)
      local client = connect(it)
      doors.wait(1)
      local a, b = moonlet.spawn(it.stop, it, 10), moonlet.spawn(it.stop, it, 0.01)
      moonlet.joinall { a, b }
      assert.same({ false, false }, { b:get(), a:get() and false })
      assert.is_true(it:stop())
      assert.equal("", read_all(client))
    end)

    it("may be called by a handler, which it does not wait for", function()
      local it
      it = serve(function(client)
        client:send(tostring(it:stop(10)))
      end)
      assert.equal("true", read_all(connect(it)))
    end)

    it("tells handlers by the field stopping, and subclasses by on_stop", function()
      local Server = StreamServer:extend("Server")
      local calls = 0
      function Server:on_stop()
        calls = calls + 1
        assert.is_true(self.stopping)
        for idle in pairs(self.idle) do
          idle:close()
        end
      end
      function Server:handle(client)
        self.idle = { [client] = true }
        while not self.stopping and client:receive() do end
      end
      local it = started(Server, HERE)
      local client = connect(it)
      support.eventually(function() return it.idle end)
      assert.is_true(it:stop(10))
      assert.is_true(it:stop(10))
      assert.equal(1, calls)
      client:close()
    end)

    it("is raised out of by a Timeout that is given to it", function()
      local doors = gate()
      local it = serve(doors.handle)
      local client = connect(it)
      doors.wait(1)
      local limit <close> = moonlet.Timeout.start_new(0.01)
      assert.equal(limit, support.error_of(it.stop, it, limit))
      assert.is_false(it:stop(0))
      client:close()
    end)
  end)

  describe("close", function()
    it("closes the socket, and lets handlers run on", function()
      local doors = gate()
      local it = serve(doors.handle)
      local client = connect(it)
      doors.wait(1)
      it:close()
      it:close()
      assert.is_false(it.started)
      assert.is_true(is_refused(it))
      doors.open:put(true)
      assert.equal("bye", read_all(client))
    end)

    it("of its socket by somebody else closes the server", function()
      local it = serve(echo)
      it.socket:close()
      support.eventually(function() return not it.started end)
    end)
  end)

  it("is stopped at the end of the block of a <close> variable, and by an error there", function()
    local doors = gate()
    local kept, client
    do
      local it <close> = serve(doors.handle, { stop_timeout = 0.01 })
      kept, client = it, connect(it)
      doors.wait(1)
    end
    assert.is_false(kept.started)
    assert.equal("", read_all(client))
    assert.equal("oops", support.error_of(function()
      local it <close> = serve(echo)
      kept = it
      error("oops", 0)
    end))
    assert.is_false(kept.started)
  end)

  describe("stop_accepting", function()
    it("lets clients wait until start_accepting", function()
      local it <close> = serve(echo)
      it:stop_accepting()
      it:stop_accepting()
      support.turns()
      local client = connect(it)
      assert(client:send("hi\n"))
      client:settimeout(0.02)
      assert.equal("timeout", select(2, client:receive()))
      client:settimeout(10)
      it:start_accepting()
      it:start_accepting()
      assert.equal("hi", client:receive())
      client:close()
    end)

    it("goes with a server that is started", function()
      local it = StreamServer(HERE, echo)
      it:stop_accepting()
      assert.error_matches(function() it:start_accepting() end, "is not started")
    end)
  end)

  it("goes on accepting after it had no descriptor left", function()
    local result = support.run_script([[
      local moonlet = require "moonlet"
      local server = require "moonlet.server"
      local socket = require "moonlet.socket"
      local it = server.StreamServer({ "127.0.0.1", 0 }, function(client)
        client:send("hi")
      end)
      assert(it:start())
      local clients = {}
      for i = 1, 3 do
        clients[i] = socket.tcp4()
      end
      local files = {}
      repeat
        files[#files + 1] = io.open("/dev/null")
      until #files > 0 and not io.open("/dev/null")
      assert(clients[1]:connect("127.0.0.1", it.address[2]))
      moonlet.sleep(0.05)
      for _, file in ipairs(files) do
        file:close()
      end
      print(clients[1]:receive("*a"))
      it:stop()
    ]], { interpreter = "prlimit", options = { "--nofile=40", support.interpreter } })
    assert.equal("", result.stderr)
    assert.equal("hi\n", result.stdout)
  end)

  describe("serve_forever", function()
    it("starts the server, and returns true when it is stopped", function()
      local it = StreamServer(HERE, echo)
      local g = moonlet.spawn(it.serve_forever, it)
      support.eventually(function() return it.started end)
      local client = connect(it)
      assert.equal("x", ask(client, "x"))
      client:close()
      it:stop()
      assert.is_true(g:get())
    end)

    it("returns after the handlers have ended", function()
      local doors = gate()
      local it = StreamServer(HERE, doors.handle, { stop_timeout = 10 })
      local g = moonlet.spawn(it.serve_forever, it)
      support.eventually(function() return it.started end)
      local client = connect(it)
      doors.wait(1)
      it:close()
      support.turns()
      assert.is_false(g:dead())
      doors.open:put(true)
      assert.is_true(g:get())
      assert.equal("bye", read_all(client))
    end)

    it("returns why it cannot be started", function()
      local it <close> = serve(echo)
      local ok, message, errno = StreamServer(it.address, echo):serve_forever()
      assert.is_nil(ok)
      assert.matches("^address already in use: 127.0.0.1:%d+$", message)
      assert.equal(98, errno)
    end)

    it("that is killed stops and closes the server", function()
      local it = StreamServer(HERE, echo, { stop_timeout = 0.01 })
      local g = moonlet.spawn(it.serve_forever, it)
      support.eventually(function() return it.started end)
      local client = connect(it)
      assert.equal("x", ask(client, "x"))
      assert.is_true(g:kill())
      assert.is_false(it.started)
      assert.is_true(is_refused(it))
      assert.equal("", read_all(client))
    end)

    it("that ends by a Timeout stops the server", function()
      local it = StreamServer(HERE, echo)
      assert.same({ nil, "timeout" },
                  { moonlet.with_timeout(0.01, it.serve_forever, it) })
      assert.is_false(it.started)
    end)

    it("ends at SIGTERM when the handlers are done, and gives SIGTERM back", function()
      local result = support.run_script([[
        local moonlet = require "moonlet"
        local server = require "moonlet.server"
        local socket = require "moonlet.socket"
        local pid = io.open("/proc/self/stat"):read("n")
        local function raise()
          assert(io.popen("kill -TERM " .. pid)):close()
        end
        local it = server.StreamServer({ "127.0.0.1", 0 }, function(client)
          client:receive()
          raise()
          moonlet.sleep(0.05)
          client:send("still here")
        end, { stop_timeout = 10 })
        assert(it:start())
        local client = assert(socket.create_connection(it.address))
        client:send("go\n")
        print(it:serve_forever(), it.started)
        print(client:receive("*a"))
        raise()
        moonlet.sleep(10)
      ]])
      assert.equal("true\tfalse\nstill here\n", result.stdout)
      assert.equal(15, result.signal or result.status and result.status - 128)
    end)
  end)

  describe("a subclass", function()
    it("has a handle of its own, and fields", function()
      local Counter = StreamServer:extend("Counter")
      function Counter:new(address)
        Counter.super.new(self, address, nil, { spawn = 5 })
        self.count = 0
      end
      function Counter:handle(client, address)
        self.count = self.count + 1
        client:send(("%d %s"):format(self.count, address[1]))
      end
      local it <close> = started(Counter, HERE)
      assert.equal("1 127.0.0.1", read_all(connect(it)))
      assert.equal("2 127.0.0.1", read_all(connect(it)))
      assert.matches("^<Counter 127.0.0.1:%d+: started, 0 handlers>$", tostring(it))
    end)

    it("may wrap clients, refuse them, and do without addresses", function()
      local Server = StreamServer:extend("Server")
      function Server:peer()
        return false
      end
      function Server:wrap(client)
        if client:receive() == "refuse" then
          return nil, "closed"
        end
        return client
      end
      function Server:handle(client, address)
        client:send(tostring(address))
      end
      local it <close> = started(Server, HERE)
      local a, b = connect(it), connect(it)
      assert(a:send("take\n"))
      assert.equal("false", read_all(a))
      assert(b:send("refuse\n"))
      assert.equal("", read_all(b))
    end)
  end)

  it("says in its tostring where and in which state it is", function()
    local it = StreamServer("127.0.0.1:0", echo)
    assert.equal("<StreamServer 127.0.0.1:0: not started, 0 handlers>", tostring(it))
    it:start()
    local at = ("<StreamServer 127.0.0.1:%d: "):format(it.address[2])
    local client = connect(it)
    ask(client, "x")
    assert.equal(at .. "started, 1 handlers>", tostring(it))
    it:stop_accepting()
    assert.equal(at .. "started, not accepting, 1 handlers>", tostring(it))
    it:close()
    assert.equal(at .. "closed, 1 handlers>", tostring(it))
    it:stop(0)
    assert.equal(at .. "stopped, 0 handlers>", tostring(it))
    client:close()
    assert.equal("<StreamServer [::1]:80: not started, 0 handlers>",
                 tostring(StreamServer("[::1]:80", echo)))
    assert.equal("<StreamServer *:80: not started, 0 handlers>", tostring(StreamServer(80, echo)))
  end)

  it("serves curl", function()
    local it <close> = serve(function(client)
      repeat
        local line = client:receive()
      until line == "" or line == nil
      client:send("HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nhello")
    end)
    local out = os.tmpname()
    local done = ("%s.done"):format(out)
    os.execute(("(curl -s http://127.0.0.1:%d/ >%s; touch %s) &"):format(it.address[2], out, done))
    support.eventually(function() return os.rename(done, done) end)
    local file <close> = assert(io.open(out))
    assert.equal("hello", file:read("a"))
    os.remove(out)
    os.remove(done)
  end)
end)

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

  it([[runs handlers where it receives if spawn is "raw", and survives their errors]], function()
    local errors = support.uncaught()
    local it <close> = started(DatagramServer, HERE, function(data)
      error(data, 0)
    end, { spawn = "raw" })
    local client <close> = client_of(it)
    assert(client:send("a"))
    assert(client:send("b"))
    support.eventually(function() return #errors == 2 end)
    assert.equal("b", errors[2].err)
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
