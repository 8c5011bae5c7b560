-- LuaSocket's own modules in Lua, and what else is written for LuaSocket, on moonlet.socket.

local socket = require "moonlet.socket"
local sockets = require "support.sockets"
local support = require "support"

local preamble = [[
  package.loaded["socket"] = socket
  package.loaded["socket.core"] = socket
  package.loaded["socket.unix"] = socket.unix

  -- Has handle(client) serve each client of a new server; returns its port.
  local function serve(handle)
    local server = assert(socket.bind("127.0.0.1", 0))
    moonlet.spawn(function()
      while true do
        local client = assert(server:accept())
        moonlet.spawn(function()
          local _ <close> = client
          handle(client)
        end)
      end
    end)
    return (select(2, server:getsockname()))
  end
]]

local function run(code, opts)
  return sockets.run(preamble .. code, opts)
end

describe("on moonlet.socket", function()
  it("what LuaSocket answers is answered", function()
    -- Runs under each of the two; what both print is compared.
    local script = [==[
      local socket = require(arg[1])
      local function pair()
        local server = assert(socket.bind("127.0.0.1", 0))
        local _, port = server:getsockname()
        local near = assert(socket.connect("127.0.0.1", port))
        local far = assert(server:accept())
        near:settimeout(0.02)
        return near, far, server, port
      end
      local near, far, server, port = pair()
      local udp = socket.udp()
      udp:settimeout(0.02)
      local function arrive(sock, data) sock:send(data) socket.sleep(0.02) end

      local calls = [[
        near:receive(0) | arrive(far, "abcdefgh\n") | near:receive(0) | near:receive(5, "xyz")
        near:receive(2, "xyz") | near:receive("*l", "xyz") | arrive(far, "q\r\rr\n123456")
        near:receive("*line") | near:receive("3") | near:receive(1.5) | near:receive("*all", "P")
        near:receive(-1) | near:receive("x") | near:receive({}) | near:receive(1, {})
        near:send("hello", 2, 3) | near:send("hello", -2) | near:send("hello", 10) | near:send(12)
        near:send("hello", 3, 1) | near:send() | near:send("hello", "x")
        near:getoption("linger").on | near:getoption("error") | near:setoption("keepalive", true)
        near:getoption("keepalive") | near:setoption("nonsense", 1) | near:setoption("keepalive", 1)
        near:setoption("tcp-nodelay", true) | near:getoption("tcp-nodelay") | near:dirty()
        near:settimeout(1, "x") | near:settimeout("x") | near:settimeout(nil, "t")
        near:gettimeout() | near:settimeout(0.02) | near:shutdown("nonsense") | near.class
        arrive(far, "tail\nmore") | near:receive(1) | near:dirty() | near:setstats(100, 5, 7)
        (near:getstats()) | near:shutdown("send") | near:send("x") | near:close()
        near:close() | near:receive() | near:receive() | near:receive() | near:send("x")
        near:send("") | near:getfd() | near:settimeout(1) | far:settimeout(0.02) | far:receive(4)
        far:receive("*a") | far:receive("*a", "pre") | far:receive() | far:close() | server.class
        server:settimeout(0) | server:accept() | server:gettimeout() | server:close()
        socket.connect("127.0.0.1", 1) | socket.connect("127.0.0.1", "no-such-service")
        socket.connect("", 1) | socket.tcp().class
        socket.tcp4():connect("127.0.0.1", 1) | socket.tcp():getfd() | udp:getfd() | udp.class
        udp:sendto("x", "127.0.0.1", 9) | udp:receive() | udp:receivefrom()
        (udp:getsockname()) | udp:setpeername("127.0.0.1", 9) | udp.class
        udp:getpeername() | udp:setpeername("*") | udp.class | udp:close() | udp:dirty()
        socket.select({}, {}, 0)[1] | socket.skip(2, 1, 2, 3)
        select(3, socket.select(nil, nil, 0)) | socket.skip(0, 1) | socket.skip(9, 1)
        socket.try(1, 2, 3) | socket.protect(function() socket.try(nil, "why", 3) end)()
        socket.protect(function() socket.try(false, "why") end)() | socket._DATAGRAMSIZE
        socket.protect(function() error("mine", 0) end)() | socket.choose({})("x")
        socket.choose({})(1) | socket.BLOCKSIZE | socket._SOCKETINVALID | socket.sleep(-1)
      ]]

      -- A number as a number, an error's text without the place; nothing at the end.
      local function show(ok, ...)
        local results = table.pack(...)
        while results.n > 0 and results[results.n] == nil do
          results.n = results.n - 1
        end
        for i = 1, results.n do
          local value = results[i]
          results[i] = type(value) == "number" and ("%g"):format(value) or tostring(value)
        end
        local number = ok and results[1] == "nil" and tonumber(results[3]) or 0
        if number > 90 or number < 0 then
          results.n = 2 -- the errno, or the resolver's number, is Moonlet's own
        end
        local text = table.concat(results, ", ", 1, results.n)
        return ok and text or "error: " .. text:gsub("^.-:%d+: ", ""):match("^[%w#' ]*")
      end

      local env = setmetatable({ near = near, far = far, server = server, port = port, udp = udp,
                                 socket = socket, arrive = arrive }, { __index = _G })
      for call in calls:gmatch("[^|\n]+") do
        call = call:match("^%s*(.-)%s*$")
        if call ~= "" then
          print(call, show(pcall(assert(load("return " .. call, "=call", "t", env)))))
        end
      end
    ]==]
    local theirs = support.run_script(script, { args = { "socket" }, interpreter = "lua5.4" })
    local ours = support.run_script(script, { args = { "moonlet.socket" },
                                              env = { LUA_PATH = package.path } })
    assert.same({ "", "" }, { theirs.stderr, ours.stderr })
    assert.equal(theirs.stdout, ours.stdout)
    assert.is_true(select(2, ours.stdout:gsub("\n", "")) > 90)
  end)

  it("LuaSocket's url, mime and ltn12 load", function()
    assert.equal("/path\naGVsbG8=\nabc\n", run [[
      print(require("socket.url").parse("http://host/path").path)
      print((require("mime").b64("hello")))
      local ltn12 = require "ltn12"
      local parts = {}
      ltn12.pump.all(ltn12.source.cat(ltn12.source.string("a"), ltn12.source.string("bc")),
                     (ltn12.sink.table(parts)))
      print(table.concat(parts))
    ]])
  end)

  describe("LuaSocket's http", function()
    local server = [[
      local http = require "socket.http"
      local ltn12 = require "ltn12"

      local function read_headers(client)
        local headers = {}
        for line in function() return client:receive() end do
          if line == "" then break end
          local name, value = line:match("^([^:]+):%s*(.*)$")
          headers[name:lower()] = value
        end
        return headers
      end

      local answers = {
        ["/"] = function() return "200 OK", "hello" end,
        ["/echo"] = function(_, body) return "200 OK", body:upper() end,
        ["/moved"] = function() return "302 Found", "", "Location: /\r\n" end,
        ["/slow"] = function() moonlet.sleep(0.1) return "200 OK", "slow" end,
      }

      local function respond(client, path, body)
        if path == "/chunked" then
          client:send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
          for i = 1, 3 do
            client:send(("%x\r\n%s\r\n"):format(1000 * i, ("x"):rep(1000 * i)))
            moonlet.sleep(0.001)
          end
          client:send("0\r\n\r\n")
        elseif path == "/until-closed" then
          client:send("HTTP/1.0 200 OK\r\n\r\n" .. ("y"):rep(100000))
        else
          local answer = answers[path] or function() return "404 Not Found", "nothing" end
          local status, text, more = answer(path, body)
          client:send(("HTTP/1.1 %s\r\nContent-Length: %d\r\n%s\r\n%s"):format(
            status, #text, more or "", text))
        end
      end

      local port = serve(function(client)
        local _, path = client:receive():match("^(%S+) (%S+)")
        local headers = read_headers(client)
        local length = tonumber(headers["content-length"] or 0)
        respond(client, path, length > 0 and client:receive(length) or "")
      end)
      local url = "http://127.0.0.1:" .. port
    ]]

    it("gets, posts, follows, and reports what is not there", function()
      assert.equal("hello 200\nHELLO POST 200\nhello 200\nnothing 404\n6000 200\n100000 200\n",
                   run(server .. [[
        local function show(body, code)
          print(("%s %d"):format(#body > 100 and #body or body, code))
        end
        show(http.request(url .. "/"))
        show(http.request(url .. "/echo", "hello post"))
        show(http.request(url .. "/moved"))
        show(http.request(url .. "/nothing"))
        show(http.request(url .. "/chunked"))
        show(http.request(url .. "/until-closed"))
      ]]))
    end)

    it("streams both ways", function()
      assert.equal("300000\n", run(server .. [[
        local parts = {}
        local data = ("z"):rep(300000)
        assert(http.request {
          url = url .. "/echo", method = "POST", headers = { ["content-length"] = #data },
          source = ltn12.source.string(data), sink = ltn12.sink.table(parts),
        })
        assert(table.concat(parts) == data:upper())
        print(#data)
      ]]))
    end)

    it("does many requests at once", function()
      assert.equal("50\n", run(server .. [[
        local before = socket.gettime()
        local list = {}
        for i = 1, 50 do
          list[i] = moonlet.spawn(http.request, url .. "/slow")
        end
        local count = 0
        for _, g in ipairs(list) do
          count = count + (g:get() == "slow" and 1 or 0)
        end
        print(count)
        assert(socket.gettime() - before < 4)
      ]]))
    end)

    it("keeps to its timeout, and lets a Timeout through", function()
      assert.equal("timeout\nconnection refused\ntrue\n", run(server .. [[
        local hole = serve(function(client) client:receive("*a") end)
        http.TIMEOUT = 0.02
        print((select(2, http.request("http://127.0.0.1:" .. hole))))
        print((select(2, http.request("http://127.0.0.1:1/"))))
        http.TIMEOUT = 60
        local limit = moonlet.Timeout(0.02)
        local ok, err = pcall(limit.run, limit, http.request, "http://127.0.0.1:" .. hole)
        print(err == limit)
      ]]))
    end)
  end)

  it("LuaSocket's smtp sends a message", function()
    assert.equal("EHLO me|MAIL FROM:<a@b>|RCPT TO:<c@d>|DATA|subject: hi|body|..dot|QUIT\n", run [[
      local smtp = require "socket.smtp"
      local ltn12 = require "ltn12"
      local seen = {}
      local port = serve(function(client)
        local replies = { EHLO = "250 fine", MAIL = "250 fine", RCPT = "250 fine",
                          DATA = "354 go on", QUIT = "221 bye" }
        client:send("220 here\r\n")
        while true do
          local line = client:receive()
          if not line then return end
          table.insert(seen, line)
          client:send((replies[line:match("^%u+")] or "500 what") .. "\r\n")
          if line == "DATA" then
            repeat
              line = client:receive()
              if line:lower() == "subject: hi" or line == "body" or line == "..dot" then
                table.insert(seen, line:lower())
              end
            until line == "."
            client:send("250 taken\r\n")
          end
        end
      end)
      assert(smtp.send {
        from = "<a@b>", rcpt = "<c@d>", server = "127.0.0.1", port = port, domain = "me",
        source = smtp.message { headers = { subject = "hi" }, body = "body\r\n.dot" },
      })
      moonlet.sleep(0.01)
      print(table.concat(seen, "|"))
    ]])
  end)

  it("LuaSocket's ftp stores and retrieves", function()
    assert.equal("stored: some content\ngot: some content\n", run [[
      local ftp = require "socket.ftp"
      local files = {}
      local function data_connection(client)
        local server = assert(socket.bind("127.0.0.1", 0))
        local _, port = server:getsockname()
        client:send(("229 here (|||%d|)\r\n"):format(port))
        return server
      end
      local port = serve(function(client)
        local data
        local commands = {
          USER = function() return "331 who" end,
          PASS = function() return "230 welcome" end,
          TYPE = function() return "200 fine" end,
          CWD = function() return "250 fine" end,
          EPSV = function() data = data_connection(client) end,
          STOR = function(name)
            client:send("150 go on\r\n")
            local _ <close> = data
            local peer <close> = data:accept()
            files[name] = peer:receive("*a")
            return "226 done"
          end,
          RETR = function(name)
            client:send("150 here it comes\r\n")
            local _ <close> = data
            local peer <close> = data:accept()
            peer:send(files[name])
            peer:close()
            return "226 done"
          end,
          QUIT = function() return "221 bye" end,
        }
        client:send("220 here\r\n")
        for line in function() return client:receive() end do
          local name, argument = line:match("^(%a+) ?(.*)$")
          local command = commands[name:upper()]
          local reply = command and command(argument) or not command and "502 what"
          if reply then client:send(reply .. "\r\n") end
        end
      end)
      local url = ("ftp://me:secret@127.0.0.1:%d/file"):format(port)
      assert(ftp.put(url .. ";type=i", "some content"))
      print("stored: " .. files.file)
      print("got: " .. assert(ftp.get(url .. ";type=i")))
    ]])
  end)

  it("lua-redis serves 50 greenlets with a client each", function()
    local port = sockets.dead_port()
    local starter <close> = assert(io.popen(("redis-server --port %d --bind 127.0.0.1 --save '' " ..
      "--appendonly no --dir /tmp >/dev/null 2>&1 & echo $!"):format(port)))
    local pid = assert(starter:read("n"))
    local _ <close> = setmetatable({}, { __close = function() support.kill("TERM", pid) end })
    support.eventually(function()
      local probe = socket.connect("127.0.0.1", port)
      return probe and probe:close()
    end)
    assert.equal("5000\n50 pushed, 50 popped\n", run([[
      package.path = package.path .. ";/usr/share/lua/5.3/?.lua" -- where Debian has it
      local redis = require "redis"
      local port = tonumber(arg[1])
      local list = {}
      for i = 1, 50 do
        list[i] = moonlet.spawn(function()
          local client = redis.connect("127.0.0.1", port)
          for j = 1, 100 do
            client:set(("key%d:%d"):format(i, j), ("value"):rep(j))
            assert(client:get(("key%d:%d"):format(i, j)) == ("value"):rep(j))
            client:incr("total")
          end
          client:quit()
        end)
      end
      moonlet.joinall(list, nil, true)
      local client = redis.connect("127.0.0.1", port)
      print(client:get("total"))
      local popped = 0
      for i = 1, 50 do
        list[i] = moonlet.spawn(function()
          local mine = redis.connect("127.0.0.1", port)
          assert(mine:blpop("queue", 10)[1] == "queue")
          popped = popped + 1
          mine:quit()
        end)
      end
      moonlet.sleep(0.01)
      assert(popped == 0)
      for i = 1, 50 do
        client:rpush("queue", i)
      end
      moonlet.joinall(list, nil, true)
      print(("50 pushed, %d popped"):format(popped))
      client:quit()
    ]], { args = { port } }))
  end)

  it("try, newtry, protect and skip do what LuaSocket's do", function()
    assert.equal("1 2 3", table.concat({ socket.try(1, 2, 3) }, " "))
    local seen = support.trace()
    local try = socket.newtry(function()
      seen("finalizer")
      error("ignored")
    end)
    local f = socket.protect(function(...)
      seen(try(...))
      return "through"
    end)
    assert.equal("through", f("a"))
    assert.same({ nil, "why" }, { f(nil, "why", 3) })
    assert.same({ nil, "why" }, { f(false, "why") })
    assert.equal("a finalizer finalizer", tostring(seen))
    local thrown = { "mine" }
    assert.equal(thrown, support.error_of(socket.protect(function() error(thrown) end)))
    assert.equal("why", tostring(support.error_of(socket.try, nil, "why")))
    assert.same({ nil, "inner" }, { socket.protect(function()
      return socket.protect(function()
        socket.try(nil, "inner")
      end)()
    end)() })
    assert.same({ "b", "c" }, { socket.skip(1, "a", "b", "c") })
    assert.same({}, { socket.skip(5, "a") })
  end)

  it("choose, sinks and sources do what LuaSocket's do", function()
    local choose = socket.choose { default = function(a, b) return "default", a, b end,
                                   other = function(a) return "other", a end }
    assert.same({ "default", 1, 2 }, { choose(1, 2) })
    assert.same({ "other", 1 }, { choose("other", 1) })
    assert.matches("unknown key %(none%)", support.error_of(choose, "none"))

    local near, far, _ <close> = sockets.pair()
    local sink, source = socket.sink(near), socket.source("by-length", far, 5)
    assert.equal(3, sink("abc"))
    assert.equal(4, sink("defg"))
    assert.equal(1, sink(nil))
    assert.equal("abcde", source())
    assert.is_nil(source())
    sink = socket.sink("close-when-done", near)
    assert.equal(2, sink("hi"))
    assert.equal(1, sink(nil))
    assert.equal(-1, near:getfd())
    source = socket.source(far)
    assert.equal("fghi", source())
    assert.is_nil(source())
    assert.equal(-1, far:getfd())
  end)
end)

describe("a peer of another make:", function()
  local out

  after_each(function()
    os.remove(out)
  end)

  before_each(function()
    out = os.tmpname()
  end)

  local function output()
    local file <close> = assert(io.open(out, "rb"))
    return file:read("a")
  end

  -- Runs a shell command whose output goes to a file, beside this process.
  local function background(command, ...)
    assert(os.execute(("{ %s ; } >%s 2>&1 </dev/null &"):format(command:format(...), out)))
  end

  it("nc, as a client", function()
    local server <close>, port = sockets.listen()
    background("printf 'hello\\n' | timeout 10 nc -N 127.0.0.1 %d", port)
    local client <close> = server:accept()
    assert.equal("hello", client:receive())
    assert.same({ nil, "closed", "" }, { client:receive() })
    assert(client:send("good bye\n"))
    client:close()
    support.eventually(function() return output() == "good bye\n" end)
  end)

  it("nc, as a server", function()
    local port = sockets.dead_port()
    background("printf 'welcome\\n' | timeout 10 nc -N -l 127.0.0.1 %d", port)
    local client
    support.eventually(function()
      client = socket.connect("127.0.0.1", port)
      return client
    end)
    local _ <close> = client
    assert.equal("welcome", client:receive())
    assert(client:send("thanks\n"))
    client:shutdown("send")
    assert.same({ nil, "closed", "" }, { client:receive() })
    support.eventually(function() return output() == "thanks\n" end)
  end)

  it("nc, over a unix socket and over UDP", function()
    local path = os.tmpname()
    os.remove(path)
    local server <close> = socket.unix()
    assert(server:bind(path))
    assert(server:listen())
    background("printf 'unix\\n' | timeout 10 nc -N -U %s", path)
    local client <close> = server:accept()
    os.remove(path)
    assert.equal("unix", client:receive())

    local udp <close> = socket.udp()
    assert(udp:setsockname("127.0.0.1", 0))
    background("printf 'datagram\\n' | timeout 10 nc -u -q 0 127.0.0.1 %d",
               (select(2, udp:getsockname())))
    assert.equal("datagram\n", udp:receive())
  end)

  it("curl, several at once", function()
    local server <close>, port = sockets.listen()
    background("for i in 1 2 3 4 5; do timeout 10 curl -s http://127.0.0.1:%d/$i & done; wait",
               port)
    local clients = {}
    for i = 1, 5 do
      local client = server:accept()
      clients[i] = { client, client:receive():match("^GET /(%d) ") }
      repeat until client:receive() == ""
    end
    for _, pair in ipairs(clients) do
      local client <close> = pair[1]
      assert(client:send("HTTP/1.0 200 OK\r\n\r\n" .. pair[2] .. "\n"))
    end
    support.eventually(function()
      local numbers = {}
      for number in output():gmatch("%d") do
        table.insert(numbers, number)
      end
      table.sort(numbers)
      return table.concat(numbers) == "12345"
    end)
  end)
end)
