local moonlet = require "moonlet"
local pool = require "moonlet.pool"
local queue = require "moonlet.queue"
local server = require "moonlet.server"
local servers = require "support.servers"
local support = require "support"

local StreamServer = server.StreamServer
local started, serve, connect, read_all =
  servers.started, servers.serve, servers.connect, servers.read_all
local echo, ask, gate, HERE = servers.echo, servers.ask, servers.gate, servers.HERE

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

    it([[as "raw" has a greenlet for each client, as without it]], function()
      local doors = gate()
      local it <close> = serve(doors.handle, { spawn = "raw" })
      local a, b = connect(it), connect(it)
      doors.wait(2)
      doors.open:put(true)
      doors.open:put(true)
      assert.same({ "bye", "bye" }, { read_all(a), read_all(b) })
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
