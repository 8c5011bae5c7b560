-- StreamServer with workers. Each spec runs a script of its own, since workers are forks of it.

local support = require "support"

-- What all scripts begin with: a server whose handlers tell who they are, and its clients.
local PRELUDE = [[
  local moonlet = require "moonlet"
  local os_module = require "moonlet.os"
  local server = require "moonlet.server"
  local socket = require "moonlet.socket"
  local kill, now = os_module.kill, moonlet.now
  local PARENT = os_module.getpid()

  local function eventually(condition)
    return moonlet.Timeout(20):run(function()
      while not condition() do
        moonlet.sleep(0.005)
      end
      return true
    end)
  end

  -- For each line of a client the worker's process id, or what the line asks for.
  local function handle(client)
    for line in function() return client:receive() end do
      if line == "exit" then
        os.exit(tonumber(client:receive()))
      elseif line == "spin" then
        while true do end
      elseif line == "random" then
        client:send(math.random(1 << 40) .. "\n")
      end
      client:send(os_module.getpid() .. "\n")
    end
  end

  local function new(opts, f)
    return server.StreamServer({ "127.0.0.1", 0 }, f or handle, opts)
  end

  local function connect(it)
    return assert(socket.create_connection(it.address, 10))
  end

  local function ask(it, line)
    local client <close> = connect(it)
    assert(client:send((line or "who") .. "\n"))
    local answer = client:receive()
    client:shutdown() -- a worker that was forked meanwhile has the socket, too
    return tonumber(answer)
  end

  -- The workers' process ids, once there are n.
  local function find_workers(it, n, known)
    local found, list = {}, {}
    eventually(function()
      local pid = ask(it)
      if pid and not found[pid] and pid ~= known then
        found[pid] = true
        list[#list + 1] = pid
      end
      return #list == n
    end)
    return list
  end

  local function is_alive(pid)
    return (kill(pid, 0)) == true
  end

  local function are_gone(list)
    return eventually(function()
      for _, pid in ipairs(list) do
        if is_alive(pid) then
          return false
        end
      end
      return true
    end)
  end

  local function is_refused(it)
    local client, message = socket.create_connection(it.address, 10)
    if client then
      client:close()
    end
    return message == "connection refused"
  end
]]

-- Runs a script that prints what is expected, and nothing to stderr unless a pattern says so.
local function check(code, expected, complaint)
  local result = support.run_script(PRELUDE .. code)
  if not complaint then
    assert.equal("", result.stderr)
  else
    assert.matches(complaint, result.stderr)
  end
  assert.equal(expected, result.stdout)
  assert.equal(0, result.status)
end

describe("a StreamServer with workers", function()
  it("handles clients in so many processes, and none in its own", function()
    check([[
      local it = new { workers = 3 }
      print(it:start(), it.started)
      local list = find_workers(it, 3)
      for _, pid in ipairs(list) do
        assert(pid ~= PARENT)
      end
      for _ = 1, 30 do
        local pid = ask(it)
        assert(pid == list[1] or pid == list[2] or pid == list[3])
      end
      print((tostring(it):gsub(":%d+:", ":PORT:")))
      print(it:stop(), it.started)
      are_gone(list)
      print(is_refused(it))
      print((tostring(it):gsub(":%d+:", ":PORT:")))
    ]], "true\ttrue\n<StreamServer 127.0.0.1:PORT: started, 3 workers>\ntrue\tfalse\ntrue\n" ..
        "<StreamServer 127.0.0.1:PORT: stopped, 0 workers>\n")
  end)

  it("may have a listening socket for each worker, by reuse_port", function()
    check([[
      local it = new { workers = 2, reuse_port = true }
      assert(it:start())
      local list = find_workers(it, 2)
      print(it:stop())
      are_gone(list)
      print(is_refused(it))
    ]], "true\ntrue\n")
  end)

  it("may have a unix socket or a given one", function()
    check([[
      local path = os.tmpname()
      os.remove(path)
      local it = server.StreamServer("unix:" .. path, handle, { workers = 2, reuse_port = true })
      assert(it:start())
      find_workers(it, 2)
      print(it:stop(), (io.open(path)))
      local listener = assert(socket.bind("127.0.0.1", 0))
      local other = server.StreamServer(listener, handle, { workers = 1 })
      assert(other:start())
      find_workers(other, 1)
      print(other:stop())
    ]], "true\tnil\ntrue\n")
  end)

  it("returns from start why the address cannot be had", function()
    check([[
      local it = new { workers = 1 }
      assert(it:start())
      for _, reuse in ipairs { false, true } do
        local other = server.StreamServer(it.address, handle, { workers = 2, reuse_port = reuse })
        local ok, message, errno = other:start()
        print(ok, message:gsub("%d+$", "PORT"), errno, other.started)
      end
      it:stop()
    ]], ("nil\taddress already in use: 127.0.0.1:PORT\t98\tfalse\n"):rep(2))
  end)

  it("refuses a number of workers that is none", function()
    check([[
      for _, workers in ipairs { 0, "2" } do
        print((select(2, pcall(new, { workers = workers })):gsub("^.-:%d+: ", "")))
      end
    ]], "bad argument #3 to 'StreamServer' (workers: must be at least 1)\n" ..
        "bad argument #3 to 'StreamServer' (workers: integer expected, got string)\n")
  end)

  it("replaces a worker that dies, and reports how it died", function()
    check([[
      local it = new { workers = 2 }
      assert(it:start())
      local first = find_workers(it, 2)
      kill(first[1], "SIGKILL")
      are_gone { first[1] }
      local second = find_workers(it, 2, first[1])
      print(second[1] == first[2] or second[2] == first[2])
      it:stop()
    ]], "true\n", "worker %d, process %d+, was killed by signal 9")
    check([[
      local it = new { workers = 1 }
      assert(it:start())
      local before = find_workers(it, 1)[1]
      ask(it, "exit\n7")
      print(find_workers(it, 1)[1] ~= before)
      it:stop()
    ]], "true\n", "worker 1, process %d+, ended with status 7")
  end)

  it("replaces one that ends in order without a word", function()
    check([[
      local it = new { workers = 1 }
      assert(it:start())
      local before = find_workers(it, 1)[1]
      kill(before, "SIGTERM")
      print(find_workers(it, 1, before)[1] ~= before)
      it:stop()
    ]], "true\n")
  end)

  it("waits longer and longer before it replaces those that die at once", function()
    check([[
      local it = new({ workers = 1 }, function() os.exit(1) end)
      assert(it:start())
      local began, deaths = now(), 0
      moonlet.set_error_handler(function() deaths = deaths + 1 end)
      local clients = {}
      for i = 1, 20 do
        clients[i] = connect(it)
      end
      eventually(function() return deaths == 3 end)
      print(now() - began >= 0.1 + 0.2)
      print(it:stop())
    ]], "true\ntrue\n")
  end)

  it("keeps clients waiting while a worker of its own socket is replaced", function()
    check([[
      moonlet.set_error_handler(function() end)
      local it = new { workers = 1, reuse_port = true }
      assert(it:start())
      kill(find_workers(it, 1)[1], "SIGKILL")
      for _ = 1, 10 do
        assert(ask(it))
      end
      print(it:stop())
    ]], "true\n")
  end)

  it("stops gracefully: what is being handled is finished, while no more is accepted", function()
    check([[
      local it = new({ workers = 2 }, function(client)
        client:send("in\n")
        client:receive()
        client:send("finished")
      end)
      assert(it:start())
      local client = connect(it)
      assert(client:receive() == "in")
      local stopper = moonlet.spawn(it.stop, it, 10)
      eventually(function() return it.stopping and is_refused(it) end)
      client:send("go on\n")
      print(client:receive("*a"))
      print(stopper:get())
    ]], "finished\ntrue\n")
  end)

  it("kills handlers that take longer, and then workers that do not answer", function()
    check([[
      local it = new { workers = 2 }
      assert(it:start())
      local list = find_workers(it, 2)
      local client = connect(it)
      assert(client:send("who\n") and client:receive())
      print(it:stop(0.05))
      print(client:receive("*a"))
      are_gone(list)
    ]], "false\nnil\tclosed\t\n")
    check([[
      local it = new { workers = 1 }
      assert(it:start())
      local list = find_workers(it, 1)
      local client = connect(it)
      assert(client:send("spin\n"))
      moonlet.sleep(0.05)
      print(it:stop(0))
      are_gone(list)
    ]], "false\n")
  end)

  it("is closed with its workers, which end after their handlers", function()
    check([[
      local it = new { workers = 1 }
      assert(it:start())
      local list = find_workers(it, 1)
      local client = connect(it)
      assert(client:send("who\n") and client:receive())
      it:close()
      print(it.started)
      eventually(function() return is_refused(it) end)
      client:send("who\n")
      print(tonumber((client:receive())) == list[1])
      client:close()
      are_gone(list)
      print(it:stop())
    ]], "false\ntrue\ntrue\n")
  end)

  it("stops and starts accepting in its workers, new ones among them", function()
    check([[
      moonlet.set_error_handler(function() end)
      local it = new { workers = 1 }
      assert(it:start())
      local pid = find_workers(it, 1)[1]
      it:stop_accepting()
      print((tostring(it):match("not accepting")))
      moonlet.sleep(0.05)
      local client = connect(it)
      client:settimeout(0.1)
      client:send("who\n")
      print(client:receive())
      kill(pid, "SIGKILL")
      client:settimeout(0.3)
      print(client:receive())
      it:start_accepting()
      client:settimeout(10)
      print(tonumber((client:receive())) ~= pid)
      client:close()
      it:stop()
    ]], "not accepting\nnil\ttimeout\t\nnil\ttimeout\t\ntrue\n")
  end)

  it("lets a handler stop its worker only", function()
    check([[
      local it
      it = new({ workers = 1 }, function(client)
        client:send(os_module.getpid() .. "\n")
        if client:receive() == "stop" then
          it:stop()
        end
      end)
      assert(it:start())
      local a, b = connect(it), connect(it)
      local pid = a:receive()
      b:receive()
      a:send("stop\n")
      a:close()
      b:close()
      eventually(function()
        local client <close> = connect(it)
        local other = client:receive()
        client:shutdown()
        return other and other ~= pid
      end)
      print(it.started, it:stop())
    ]], "true\ttrue\n")
  end)

  it("has random numbers of their own in its workers", function()
    check([[
      local it = new { workers = 2 }
      assert(it:start())
      find_workers(it, 2)
      local seen = {}
      for _ = 1, 20 do
        local number = ask(it, "random")
        assert(not seen[number])
        seen[number] = true
      end
      print(it:stop())
    ]], "true\n")
  end)

  for _, signal in ipairs { "SIGTERM", "SIGKILL" } do
    it("has no worker left after its own process got " .. signal, function()
      check(([[
        local r, w = os_module.pipe()
        local child = os_module.fork()
        if child == 0 then
          local it = new { workers = 2, stop_timeout = 0.2 }
          it:start()
          os_module.write(w, it.address[2] .. "\n")
          it:serve_forever()
          os.exit(it.started and 1 or 0)
        end
        local it = { address = { "127.0.0.1", tonumber(os_module.read(r, 100)) } }
        local list = find_workers(it, 2)
        local client = connect(it)
        assert(client:send("who\n") and client:receive())
        kill(child, "%s")
        print(select(2, os_module.waitpid(child)))
        are_gone(list)
        print(client:receive("*a"))
        print(is_refused(it))
      ]]):format(signal), (signal == "SIGTERM" and "exited\t0" or "killed\t9") ..
         "\nnil\tclosed\t\ntrue\n")
    end)
  end

  it("has no worker left after an error in its own process", function()
    check([[
      local r, w = os_module.pipe()
      local child = os_module.fork()
      if child == 0 then
        local it = new { workers = 2 }
        it:start()
        os_module.write(w, it.address[2] .. "\n")
        moonlet.with_timeout(0.5, it.serve_forever, it)
        os.exit(it.started and 1 or 0)
      end
      local it = { address = { "127.0.0.1", tonumber(os_module.read(r, 100)) } }
      local list = find_workers(it, 2)
      print(select(2, os_module.waitpid(child)))
      are_gone(list)
    ]], "exited\t0\n")
  end)

  it("may be of a subclass", function()
    check([[
      local Hello = server.StreamServer:extend("Hello")
      function Hello:new(address, opts)
        Hello.super.new(self, address, nil, opts)
      end
      function Hello:handle(client)
        client:send("hello")
      end
      local it = Hello({ "127.0.0.1", 0 }, { workers = 2 })
      assert(it:start())
      print(connect(it):receive("*a"))
      print(it:stop())
    ]], "hello\ntrue\n")
  end)
end)
