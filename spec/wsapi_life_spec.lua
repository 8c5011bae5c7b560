-- Errors, logs, time limits, and the end of connections and of the server.

local http = require "support.http"
local moonlet = require "moonlet"
local support = require "support"
local wsapi = require "moonlet.wsapi"

local get, post, ask, one, iterator = http.get, http.post, http.ask, http.one, http.iterator

describe("moonlet.wsapi: the life of a connection:", function()
  local log, errors

  -- A server whose logs are kept.
  local function logging(app, opts)
    log, errors = {}, {}
    opts = opts or {}
    opts.log = function(line) table.insert(log, line) end
    opts.error_log = function(line) table.insert(errors, line) end
    return http.serve(app, opts)
  end

  describe("an application that fails", function()
    it("before any output is answered 500 without details, and the connection closed", function()
      local it <close> = logging(function()
        error("the secret")
      end)
      local list = ask(it, get("/", "Authorization: password") .. get("/more"))
      assert.equal(1, #list)
      assert.same({ 500, "Internal Server Error", "text/plain", "close" },
                  { list[1].status, list[1].body, list[1].headers["content-type"],
                    list[1].headers.connection })
      assert.equal(1, #errors)
      assert.matches("wsapi_life_spec.lua:%d+: the secret\nstack traceback:", errors[1])
      assert.matches("127.0.0.1:%d+, Host: here$", errors[1])
      assert.not_matches("password", errors[1])
      assert.matches('"GET / HTTP/1.1" 500 21 ', log[1])
    end)

    it("in its iterator before the first piece is answered 500 too", function()
      local it <close> = logging(function()
        return 200, {}, coroutine.wrap(function()
          error { code = 1 }
        end)
      end)
      assert.equal(500, one(it, get("/")).status)
      assert.equal(1, #errors)
    end)

    it("is answered without a body where HEAD was asked for, and in HTTP/1.0 too", function()
      local it <close> = logging(function()
        return 200, {}, function() error("early") end
      end)
      local answer = one(it, "GET / HTTP/1.0\r\n\r\n")
      assert.same({ 500, "Internal Server Error" }, { answer.status, answer.body })
      local other <close> = logging(error)
      local text = http.talk(other, http.text("HEAD / HTTP/1.1"))
      assert.matches("^HTTP/1.1 500.*\r\n\r\n$", text)
    end)

    it("after output began is cut off without a final chunk", function()
      local it <close> = logging(function()
        return 200, {}, coroutine.wrap(function()
          coroutine.yield("some")
          error("late")
        end)
      end)
      local text = http.talk(it, get("/"):rep(2))
      assert.matches("4\r\nsome\r\n$", text)
      assert.not_matches("500", text)
      assert.matches("late", errors[1])
      assert.matches('" 200 4 ', log[1])
    end)

    it("after output began in HTTP/1.0 is cut off by an error of the connection", function()
      local it <close> = logging(function()
        return 200, {}, coroutine.wrap(function()
          coroutine.yield("some")
          error("late")
        end)
      end)
      local client = http.connect(it)
      assert(client:send("GET / HTTP/1.0\r\n\r\n"))
      local _, message, text = client:receive("*a")
      client:close()
      assert.equal("closed", message) -- at an end in order all of it is returned, without a word
      assert.matches("some$", text)
    end)

    it("with a Timeout of its own is answered 500", function()
      local it <close> = logging(function()
        local _ <close> = moonlet.Timeout.start_new(0.01)
        moonlet.sleep(10)
      end)
      assert.equal(500, one(it, get("/")).status)
      assert.equal(1, #errors)
    end)

    it("does not keep others waiting", function()
      local it <close> = logging(function(env)
        if env.PATH_INFO == "/slow" then
          moonlet.sleep(100)
        elseif env.PATH_INFO == "/fail" then
          error("now")
        end
        return 200, nil, "ok"
      end)
      local client <close> = http.connect(it)
      assert(client:send(get("/slow")))
      assert.equal(500, one(it, get("/fail")).status)
      assert.equal("ok", one(it, get("/")).body)
      it:stop(0)
    end)

    it("may write to env.error", function()
      local it <close> = logging(function(env)
        env.error:write("a ", 1, "\n"):flush()
        return 200
      end)
      one(it, get("/"))
      assert.same({ "a 1" }, errors)
    end)
  end)

  describe("a client that leaves", function()
    it("in the middle of a response is noticed at the next send, and nothing is printed", function()
      local ended = false
      local it <close> = logging(function()
        return 200, {}, function()
          moonlet.sleep(0.001)
          local _ <close> = setmetatable({}, { __close = function() ended = true end })
          return ("x"):rep(1000)
        end
      end)
      local client = http.connect(it)
      assert(client:send(get("/")))
      client:recv()
      client:setoption("linger", { on = true, timeout = 0 })
      client:close()
      support.eventually(function() return #log == 1 end)
      assert.is_true(ended)
      assert.same({}, errors)
      local bytes = tonumber(log[1]:match('"GET / HTTP/1.1" 200 (%d+) '))
      assert.equal(0, bytes % 1000)
    end)

    it("while the application waits is not told to it", function()
      local woken
      local it <close> = logging(function()
        moonlet.sleep(0.03)
        woken = true
        return 200, nil, "x"
      end)
      local client = http.connect(it)
      assert(client:send(get("/")))
      client:close()
      support.eventually(function() return woken and #log == 1 end)
      assert.same({}, errors)
    end)

    it("at any byte of its request leaves nothing behind", function()
      local it <close> = logging(function(env)
        env.input:read()
        return 200, nil, "ok"
      end)
      local text = post("/path?query", "a body", "Cookie: a=b")
      for length = 0, #text do
        local client = http.connect(it)
        if length > 0 then
          assert(client:send(text:sub(1, length)))
        end
        if length % 2 == 0 then
          client:setoption("linger", { on = true, timeout = 0 })
        end
        client:close()
      end
      assert.equal("ok", one(it, post("/", "x")).body)
      support.eventually(function() return next(it._handlers) == nil end)
      assert.same({}, errors)
    end)

    it("at any byte of the response leaves nothing behind", function()
      local it <close> = logging(function()
        return 200, { ["Content-Type"] = "text/plain" }, iterator("one", "two", "three")
      end)
      local whole = #http.talk(it, get("/"))
      for length = 1, whole do
        local client = http.connect(it)
        assert(client:send(get("/")))
        assert.equal(length, #client:receive(length))
        client:close()
      end
      support.eventually(function() return next(it._handlers) == nil end)
      assert.same({}, errors)
    end)
  end)

  describe("the access log", function()
    it("has a line for each request, as Apache's combined format has, and the seconds", function()
      local it <close> = logging(function(env)
        return env.PATH_INFO == "/none" and 204 or 200, nil, env.PATH_INFO == "/" and "hello" or ""
      end)
      ask(it, get("/", "Referer: http://there/", 'User-Agent: "me"') .. get("/none") ..
          http.text("HEAD / HTTP/1.1"), { [3] = true })
      assert.equal(3, #log)
      assert.matches('^127%.0%.0%.1 %- %- %[%d%d/%a%a%a/%d%d%d%d:%d%d:%d%d:%d%d [+-]%d%d%d%d%] ' ..
                     '"GET / HTTP/1%.1" 200 5 "http://there/" "\\x22me\\x22" %d+%.%d%d%d%d%d%d$',
                     log[1])
      assert.matches('"GET /none HTTP/1%.1" 204 0 "%-" "%-" ', log[2])
      assert.matches('"HEAD / HTTP/1%.1" 200 0 ', log[3])
    end)

    it("has no line end and no control character of a client's", function()
      local it <close> = logging(function() return 200 end)
      one(it, get("/%0a%0d", "User-Agent: a\tb\255"))
      assert.matches('"GET /%%0a%%0d HTTP/1%.1" 200 0 "%-" "a\\x09b\\xff" ', log[1])
      for _, line in ipairs(log) do
        assert.not_matches("%c", line)
      end
    end)

    it("may be a file, a callable object, or none", function()
      local path = os.tmpname()
      local file = assert(io.open(path, "w"))
      local lines = {}
      local object = setmetatable({}, { __call = function(_, line) table.insert(lines, line) end })
      for _, option in ipairs { file, object, false } do
        local it <close> = http.serve(function() return 200 end,
                                      { log = option, error_log = option })
        one(it, get("/"))
        one(it, "nonsense\r\n\r\n")
      end
      file:close()
      local text = assert(io.open(path)):read("a")
      os.remove(path)
      assert.matches('^127.0.0.1.*"GET / HTTP/1.1" 200.*\n.*bad request: .*\n.*"nonsense" 400.*\n$',
                     text)
      assert.equal(3, #lines)
    end)

    it("goes to standard error unless said otherwise", function()
      local result = support.run_script [[
        local wsapi = require "moonlet.wsapi"
        local socket = require "moonlet.socket"
        local server <close> = wsapi.WSAPIServer({ "127.0.0.1", 0 }, function() error "oops" end)
        server:start()
        local client <close> = socket.create_connection(server.address)
        client:send "GET /x HTTP/1.0\r\n\r\n"
        client:receive "*a"
      ]]
      assert.matches("oops\nstack traceback", result.stderr)
      assert.matches('"GET /x HTTP/1.0" 500 21 ', result.stderr)
    end)
  end)

  describe("time", function()
    local SOON = { header_timeout = 0.05, idle_timeout = 0.05, linger_timeout = 0.02 }

    local function ok()
      return 200, nil, "ok"
    end

    it("to send a head is limited as a whole: a slow client is answered 408", function()
      local it <close> = logging(ok, SOON)
      local client <close> = http.connect(it)
      local text = get("/", "A: " .. ("x"):rep(1000))
      local sender = moonlet.spawn(function()
        for i = 1, #text do
          if not client:send(text:sub(i, i)) then
            return
          end
          moonlet.sleep(0.002)
        end
      end)
      local start = support.clock()
      assert.matches("^HTTP/1.1 408 Request Timeout", http.receive(client))
      assert.is_true(support.clock() - start >= 0.04)
      sender:kill()
      assert.matches('" 408 0 ', log[1])
      assert.same({}, errors)
    end)

    it("to wait for a request is limited: the connection is closed without a word", function()
      local it <close> = logging(ok, SOON)
      local client <close> = http.connect(it)
      assert.same({ nil, "closed", "" }, { client:receive("*a") })
      local second <close> = http.connect(it)
      assert(second:send(get("/")))
      assert.matches("ok$", http.receive(second))
      assert.is_nil((second:receive("*a")))
      assert.equal(1, #log)
    end)

    it("for a client to take what is sent is limited", function()
      local it <close> = logging(function()
        return 200, {}, function() return ("x"):rep(65536) end
      end, SOON)
      local client <close> = http.connect(it)
      assert(client:send(get("/")))
      support.eventually(function() return #log == 1 end)
      assert.matches('" 200 %d%d%d%d+ ', log[1])
    end)

    it("that many slow clients take keeps no other waiting", function()
      local it <close> = logging(ok)
      local slow = {}
      for i = 1, 100 do
        slow[i] = http.connect(it)
        assert(slow[i]:send("GET /" .. i))
      end
      assert.equal("ok", one(it, get("/")).body)
      for _, client in ipairs(slow) do
        client:close()
      end
    end)

    it("is not short between the pieces of an application that takes its own", function()
      local it <close> = logging(function()
        return 200, {}, coroutine.wrap(function()
          for _ = 1, 3 do
            moonlet.sleep(0.06)
            coroutine.yield("x")
          end
        end)
      end, SOON)
      assert.equal("xxx", one(it, get("/")).body)
    end)
  end)

  describe("stop", function()
    it("closes idle connections, and lets requests come to their end", function()
      local gate, entered = moonlet.spawn_later(100, print), false
      local it <close> = logging(function(env)
        if env.PATH_INFO == "/wait" then
          entered = true
          gate:join()
        end
        return 200, nil, "ok"
      end, { linger_timeout = 0.02 })
      local idle <close> = http.connect(it)
      local busy <close> = http.connect(it)
      assert(idle:send(get("/")))
      http.receive(idle)
      assert(busy:send(get("/wait") .. get("/more")))
      support.eventually(function() return entered end)
      local stopper = moonlet.spawn(it.stop, it, 10)
      assert.is_nil((idle:receive("*a")))
      assert.is_false(stopper:ready())
      gate:kill()
      local answer = busy:receive("*a")
      assert.matches("Connection: close", answer)
      assert.equal(1, #http.parse(answer))
      assert.is_true(stopper:get())
    end)

    it("kills what does not end in time, and says so", function()
      local entered
      local it <close> = logging(function()
        entered = true
        moonlet.sleep(100)
      end)
      local client <close> = http.connect(it)
      assert(client:send(get("/")))
      support.eventually(function() return entered end)
      assert.is_false(it:stop(0.01))
      assert.is_nil((client:receive("*a")))
      assert.same({}, errors)
    end)

    it("takes away the parsers of closed connections", function()
      local it <close> = logging(function() return 200 end)
      for _ = 1, 20 do
        one(it, get("/"))
      end
      assert.is_true(#it._parsers <= 20)
      assert.is_nil(next(it._handlers))
    end)
  end)

  it("is shown in workers of their own, if asked for", function()
    local result = support.run_script [[
      local moonlet = require "moonlet"
      local wsapi = require "moonlet.wsapi"
      local socket = require "moonlet.socket"
      local function app(env)
        return 200, nil, tostring(env["wsapi.multiprocess"]) .. env.SERVER_PORT
      end
      local server <close> =
        wsapi.WSAPIServer({ "127.0.0.1", 0 }, app, { log = false, workers = 2 })
      assert(server:start())
      for _ = 1, 4 do
        local client <close> = socket.create_connection(server.address)
        client:send "GET /x HTTP/1.0\r\n\r\n"
        local text = client:receive "*a"
        assert(text:find("true" .. server.address[2], 1, true), text)
      end
      print "ok"
    ]]
    assert.same({ "ok\n", "" }, { result.stdout, result.stderr })
  end)

  it("may be of spawn = n: so many at a time", function()
    local now, most = 0, 0
    local it <close> = http.serve(function()
      now = now + 1
      most = math.max(most, now)
      moonlet.sleep(0.005)
      now = now - 1
      return 200, nil, "ok"
    end, { spawn = 3 })
    local clients = {}
    for i = 1, 9 do
      clients[i] = moonlet.spawn(one, it, get("/"))
    end
    moonlet.joinall(clients)
    assert.equal(3, most)
  end)

  it("checks what it is given", function()
    assert.error_matches(function() wsapi.WSAPIServer(0, print, 1) end, "bad argument #3")
  end)
end)
