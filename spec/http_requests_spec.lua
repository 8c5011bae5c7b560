local http = require "moonlet.http"
local moonlet = require "moonlet"
local socket = require "moonlet.socket"
local support = require "support"
local web = require "support.web"

local function echo(peer, request)
  peer:reply("200 Fine", ("X-Connection: %d\r\n"):format(peer.number),
             ("%s %s %s"):format(request.method, request.target, request.body))
end

-- A function that gives the pieces of a list one by one.
local function each(list)
  local i = 0
  return function()
    i = i + 1
    return list[i]
  end
end

describe("moonlet.http, one request after another", function()
  local server, client

  -- Starts the server of a spec, which is ended with it.
  local function start(answer, options)
    server, client = web.serve_client(finally, answer, options)
  end

  local function get(path, options)
    options = options or {}
    options.url = server:url(path)
    local response, message, number = client:request(options)
    return response, message, number
  end

  local function fails(message, response, ...)
    assert.is_nil(response)
    assert.equal(message, (...))
  end

  describe("connections", function()
    it("are used again once an answer was read, or has come as a whole", function()
      start(echo)
      for _ = 1, 5 do
        get():body()
      end
      get()
      get()
      assert.equal(1, server.count)
      assert.equal("<Client: 1 idle connections>", tostring(client))
    end)

    it("of a large answer that is not read are closed with it", function()
      start(function(peer)
        peer:reply(nil, nil, ("x"):rep(5000000))
      end)
      local response = get()
      assert.equal("<Response 200, open>", tostring(response))
      response:close()
      response:close()
      assert.equal("<Response 200, closed>", tostring(response))
      assert.same({ n = 3, nil, "closed", "" }, table.pack(response:read(1)))
      do
        local other <close> = get()
        assert.equal("xxx", other:read(3))
      end
      assert.equal("<Client: 0 idle connections>", tostring(client))
      support.eventually(function()
        return server.open == 0
      end)
      assert.equal(2, server.count)
    end)

    it("of an answer that is forgotten are closed by the collector", function()
      start(function(peer)
        peer:reply(nil, nil, ("x"):rep(5000000))
      end)
      get():read(1)
      support.eventually(function()
        collectgarbage()
        return server.open == 0
      end)
    end)

    it("are not used again if either end says close", function()
      start(function(peer, request)
        peer:reply(nil, request.target == "/close" and "Connection: close\r\n" or nil, "x")
      end)
      get("/close"):body()
      get("/", { headers = { Connection = "close" } }):body()
      get():body()
      get():body()
      assert.equal(3, server.count)
    end)

    it("are not used again if something came that nobody asked for", function()
      start(function(peer)
        peer:reply(nil, nil, "x")
        peer:send(peer.number == 1 and "HTTP/1.1 200 OK\r\n\r\nevil" or "")
      end)
      assert.equal("x", get():body())
      support.turns()
      assert.equal("x", get():body())
      assert.equal("x", get():body())
      assert.equal(2, server.count)
    end)

    it("are different ones for different servers, and ways to them", function()
      start(echo)
      get():body()
      client:request("http://localhost:" .. server.port):body()
      assert.equal(2, server.count)
    end)

    it("that the server has closed meanwhile are not used", function()
      start(function(peer)
        peer:reply(nil, nil, "x")
        return true
      end)
      for _ = 1, 3 do
        assert.equal("x", get("/", { method = "POST" }):body())
        support.eventually(function()
          return server.open == 0
        end)
      end
      assert.equal(3, server.count)
    end)

    it("are given up after some time, or if there are many", function()
      start(echo)
      client = http.Client { idle_time = 0.01, proxy = false }
      get():body()
      moonlet.sleep(0.02)
      get():body()
      assert.equal(2, server.count)
      client = http.Client { max_idle = 2, proxy = false }
      local list = {}
      for i = 1, 5 do
        list[i] = moonlet.spawn(function()
          return get("/", { body = each { "x" } }):body()
        end)
      end
      moonlet.joinall(list, nil, true)
      assert.equal("<Client: 2 idle connections>", tostring(client))
      client:close()
      assert.equal("<Client: 0 idle connections>", tostring(client))
      support.eventually(function()
        return server.open <= 1
      end)
      client = http.Client { max_idle = 0, proxy = false }
      get():body()
      assert.equal("<Client: 0 idle connections>", tostring(client))
    end)

    it("in use when the client is closed are not kept", function()
      local go = require("moonlet.event").Event()
      start(function(peer)
        go:wait()
        peer:reply(nil, nil, "x")
      end)
      local g = moonlet.spawn(function()
        return get():body()
      end)
      support.eventually(function()
        return server.requests[1]
      end)
      client:close()
      go:set()
      assert.equal("x", g:get())
      assert.equal("<Client: 0 idle connections>", tostring(client))
      assert.equal("x", get():body())
      assert.equal("<Client: 1 idle connections>", tostring(client))
    end)

    it("are no more than the client may have to a server", function()
      start(function(peer)
        moonlet.sleep(0.001)
        peer:reply(nil, nil, "x")
      end)
      client = http.Client { max_connections = 3, proxy = false }
      local list = {}
      for i = 1, 30 do
        list[i] = moonlet.spawn(function()
          return get("/" .. i):body()
        end)
      end
      moonlet.joinall(list, nil, true)
      assert.equal(3, server.most)
      assert.equal(3, server.count)
    end)

    it("that are limited are free again however a request ends", function()
      local silent = true
      start(function(peer)
        if silent then
          peer.stream:receive("*a")
          return true
        end
        peer:reply(nil, nil, ("x"):rep(1000000))
      end)
      client = http.Client { max_connections = 1, proxy = false }
      local g = moonlet.spawn(get)
      support.eventually(function()
        return server.open == 1
      end)
      fails("timeout", get("/", { connect_timeout = 0.01 }))
      g:kill()
      fails("timeout", get("/", { timeout = 0.01 }))
      silent = false
      get():close()
      get("/", { timeout = 5 })
      support.eventually(function()
        collectgarbage()
        local response = get("/", { timeout = 0.2 })
        return response and response:body()
      end)
    end)

    it("serve two greenlets at once, and 500", function()
      start(echo, { backlog = 1000 })
      local list = {}
      for i = 1, 500 do
        list[i] = moonlet.spawn(function()
          return get("/" .. i, { body = i % 2 == 0 and each { "a", "b" } or nil }):body()
        end)
      end
      for i, g in ipairs(moonlet.joinall(list, nil, true) and list) do
        assert.equal(i % 2 == 0 and "POST /" .. i .. " ab" or "GET /" .. i .. " ", g:get())
      end
      assert.equal("<Client: 8 idle connections>", tostring(client))
    end)
  end)

  describe("timeouts", function()
    -- A server that sends a text and then nothing; the connection stays until it is stopped.
    local function stall(text)
      start(function(peer)
        peer:send(text)
        peer.stream:receive("*a")
        return true
      end)
    end

    local function timed_out(path, options)
      local from = support.clock()
      fails("timeout", get(path, options))
      assert.is_true(support.clock() - from < 5)
      support.eventually(function()
        return server.open == 0
      end)
    end

    it("bound the wait for the answer", function()
      stall("HTTP/1.1 200 OK\r\n")
      timed_out("/", { timeout = 0.02 })
      timed_out("/", { answer_timeout = 0.02 })
      timed_out("/", { answer_timeout = 0.02, body = each { "x" } })
      timed_out("/", { answer_timeout = 0.02, timeout = 10, body = ("x"):rep(100000) })
      timed_out("/", { answer_timeout = 10, timeout = 0.02, body = each { "x" } })
    end)

    it("bound the sending", function()
      start(function()
        moonlet.sleep(20)
      end)
      server.handle = function()
        moonlet.sleep(20)
      end
      local large = ("x"):rep(20000000)
      for _, options in ipairs { { send_timeout = 0.05 }, { timeout = 0.05 } } do
        options.body = large
        local from = support.clock()
        fails("timeout", get("/", options))
        assert.is_true(support.clock() - from < 5)
        options.body = function()
          return large
        end
        fails("timeout", get("/", options))
      end
    end)

    it("bound connecting", function()
      start(echo, { backlog = 1 })
      server.greenlets[1]:kill()
      local list = {}
      repeat -- until the backlog is full
        local stream = socket.tcp()
        table.insert(list, stream)
        stream:settimeout(0.1)
      until not stream:connect("127.0.0.1", server.port)
      local from = support.clock()
      fails("timeout", get("/", { connect_timeout = 0.05 }))
      fails("timeout", get("/", { timeout = 0.05 }))
      assert.is_true(support.clock() - from < 5)
    end)

    it("bound everything together, up to the end of the body", function()
      stall("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf")
      local response = assert(get("/", { timeout = 0.05 }))
      assert.same({ n = 3, nil, "timeout", "half" }, table.pack(response:read(5)))
      assert.same({ n = 3, nil, "timeout", "" }, table.pack(response:body()))
      response = assert(get("/", { timeout = 0.05 }))
      assert.equal("ha", response:read(2))
      local err = support.error_of(function()
        assert.equal("lf", response())
        response()
      end)
      assert.equal("timeout", err)
      response = assert(get("/", { answer_timeout = 0.05 }))
      assert.is_false(moonlet.with_timeout(0.2, function()
        return response:read(5)
      end) ~= nil)
      response:close()
    end)

    it("of connecting do not bound what comes later", function()
      start(function(peer)
        moonlet.sleep(0.05)
        peer:send("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n")
        moonlet.sleep(0.05)
        peer:send("body")
      end)
      assert.equal("body", get("/", { connect_timeout = 0.03 }):body())
    end)

    it("of 0 do not wait", function()
      start(echo)
      fails("timeout", get("/", { timeout = 0 }))
      fails("timeout", get("/", { timeout = -1 }))
    end)

    it("may be started Timeouts, which raise themselves", function()
      stall("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf")
      local timeout <close> = moonlet.Timeout.start_new(0.05)
      local response = get("/", { timeout = timeout })
      assert.equal("half", response:read(4))
      assert.equal(timeout, support.error_of(response.read, response, 5))
      response:close()
    end)

    it("around a read lose nothing of the body", function()
      local go = require("moonlet.event").Event()
      start(function(peer)
        peer:send("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n01234")
        go:wait()
        peer:send("56789")
      end)
      local response = get()
      fails("timeout", moonlet.with_timeout(0.02, response.read, response, 8))
      fails("timeout", moonlet.with_timeout(0.02, response.body, response))
      go:set()
      assert.equal("0123456789", response:read(20))
      assert.equal(1, server.count)
    end)
  end)

  describe("redirections", function()
    -- A server that answers by a table of target -> status and location; else it echoes.
    local function redirecting(map, options)
      start(function(peer, request)
        local to = map[request.target]
        if to then
          peer:reply(to[1] .. " Elsewhere", "Location: " .. to[2] .. "\r\n", "go there")
        else
          echo(peer, request)
        end
      end, options)
    end

    it("are followed, relative ones too", function()
      redirecting { ["/a"] = { 301, "/b?x" }, ["/b?x"] = { 302, "c#f" }, ["/c"] = { 303, "?q" },
                    ["/c?q"] = { 307, "./d/e" }, ["/d/e"] = { 308, "../end path" } }
      local response = assert(get("/a"))
      assert.equal("GET /end%20path ", response:body())
      assert.equal(server:url("/end%20path"), response.url)
      assert.equal(6, #server.requests)
      assert.equal(1, server.count)
    end)

    it("change the method as browsers do", function()
      redirecting { ["/301"] = { 301, "/" }, ["/302"] = { 302, "/" }, ["/303"] = { 303, "/" },
                    ["/307"] = { 307, "/" }, ["/308"] = { 308, "/" } }
      local function final(method, status)
        return get("/" .. status, { method = method, body = method ~= "HEAD" and "body" or nil,
                                    headers = { ["Content-Type"] = "text/plain" } })
      end
      for _, status in ipairs { 301, 302, 303 } do
        assert.equal("GET / ", final("POST", status):body())
        local headers = server.requests[#server.requests].headers
        assert.is_nil(headers["content-type"])
        assert.is_nil(headers["content-length"])
      end
      assert.equal("PUT / body", final("PUT", 301):body())
      assert.equal("PUT / body", final("PUT", 302):body())
      assert.equal("GET / ", final("PUT", 303):body())
      assert.equal("POST / body", final("POST", 307):body())
      assert.equal("POST / body", final("POST", 308):body())
      assert.equal("text/plain", server.requests[#server.requests].headers["content-type"])
      for _, status in ipairs { 301, 302, 303, 307, 308 } do
        final("HEAD", status)
        assert.equal("HEAD", server.requests[#server.requests].method)
      end
    end)

    it("of a body that a function gave are followed only without it", function()
      redirecting { ["/302"] = { 302, "/" }, ["/307"] = { 307, "/" } }
      assert.equal("GET / ", get("/302", { body = each { "x" } }):body())
      fails("redirected, but the body cannot be sent again", get("/307", { body = each { "x" } }))
    end)

    it("are followed only so often", function()
      redirecting { ["/loop"] = { 302, "/loop" }, ["/one"] = { 302, "/two" },
                    ["/two"] = { 302, "/three" } }
      fails("too many redirections", get("/loop"))
      assert.equal(11, #server.requests)
      assert.equal("GET /three ", get("/one", { redirects = 2 }):body())
      fails("too many redirections", get("/one", { redirects = 1 }))
      for _, none in ipairs { 0, false } do
        local response = get("/one", { redirects = none })
        assert.equal(302, response.status)
        assert.equal("go there", response:body())
      end
    end)

    it("without a place to go to are answers", function()
      start(function(peer)
        peer:reply("302 Found", nil, "x")
      end)
      assert.equal(302, get().status)
    end)

    it("to nowhere are errors", function()
      redirecting { ["/scheme"] = { 302, "ftp://host:21/" }, ["/wrong"] = { 302, "http://" },
                    ["/mail"] = { 302, "mailto:me" } }
      fails("redirected to an unknown scheme: ftp", get("/scheme"))
      for _, path in ipairs { "/wrong", "/mail" } do
        local response, message = get(path)
        assert.is_nil(response)
        assert.truthy(message:find("^redirected to an invalid URL"), message)
      end
    end)

    it("to another server take no credentials along", function()
      local other <close> = web.serve(echo)
      redirecting { ["/out"] = { 302, other:url("/") }, ["/in"] = { 302, "/" } }
      local options = { headers = { Authorization = "Secret", Cookie = "a=b", Host = "me",
                                    ["X-Other"] = "stays" } }
      get("/in", options):body()
      local headers = server.requests[2].headers
      assert.equal("Secret", headers.authorization)
      assert.equal("a=b", headers.cookie)
      get("/out", options):body()
      headers = other.requests[1].headers
      assert.is_nil(headers.authorization)
      assert.is_nil(headers.cookie)
      assert.equal("stays", headers["x-other"])
      assert.equal("127.0.0.1:" .. other.port, headers.host)
      local with_user = server:url("/in"):gsub("//", "//u:p@")
      client:request(with_user):body()
      assert.equal("Basic dTpw", server.requests[#server.requests].headers.authorization)
      with_user = server:url("/out"):gsub("//", "//u:p@")
      client:request(with_user):body()
      assert.is_nil(other.requests[2].headers.authorization)
    end)

    it("do not leave the request's own table changed", function()
      redirecting { ["/302"] = { 302, "/" } }
      local headers = { ["Content-Type"] = "text/plain" }
      get("/302", { body = "x", headers = headers })
      assert.same({ ["Content-Type"] = "text/plain" }, headers)
    end)

    it("with a body that does not end are followed all the same", function()
      start(function(peer, request)
        if request.target == "/" then
          peer:send("HTTP/1.1 302 Found\r\nLocation: /x\r\nContent-Length: 9999999\r\n\r\nxxx")
        elseif request.target == "/slow" then
          peer:send("HTTP/1.1 302 Found\r\nLocation: /x\r\nContent-Length: 100\r\n\r\nxxx")
        else
          echo(peer, request)
        end
      end)
      assert.equal("GET /x ", get():body())
      assert.equal("GET /x ", get("/slow"):body())
    end)
  end)

  describe("cookies", function()
    it("are kept if the client shall, and sent", function()
      start(function(peer, request)
        local set = { ["/set"] = "Set-Cookie: a=1\r\nSet-Cookie: b=2; Path=/x\r\n",
                      ["/go"] = "Set-Cookie: c=3\r\nLocation: /x/y\r\n" }
        peer:reply(request.target == "/go" and "302 Found" or nil, set[request.target],
                   request.headers.cookie or "none")
      end)
      assert.equal("none", get("/set"):body())
      assert.equal("none", get("/"):body())
      assert.is_false(client.cookies)
      client = http.Client { cookies = true, proxy = false }
      assert.equal("none", get("/set"):body())
      assert.equal("a=1", get("/"):body())
      assert.equal("b=2; a=1", get("/x"):body())
      assert.equal("b=2; a=1; c=3", get("/go"):body())
      assert.equal("mine=1", get("/", { headers = { Cookie = "mine=1" } }):body())
      local jar = client.cookies
      client = http.Client { cookies = jar, proxy = false }
      assert.equal("a=1; c=3", get("/"):body())
    end)
  end)

  describe("a client", function()
    it("does not share its connections with a forked child", function()
      local run = support.run_script([[
        package.path = "spec/?.lua;" .. package.path
        local http, process = require "moonlet.http", require "moonlet.os"
        io.stdout:setvbuf("no")
        local server = require("support.web").serve(function(peer)
          peer:reply(nil, nil, tostring(peer.number))
        end)
        print(http.request(server:url()):body())
        local child = process.fork()
        if child == 0 then
          print(http.request(server:url()):body())
          os.exit(0)
        end
        process.waitpid(child)
        print(http.request(server:url()):body())
      ]])
      assert.equal("", run.stderr)
      assert.equal("1\n2\n1\n", run.stdout)
    end)

    it("has defaults for its requests", function()
      start(echo)
      client = http.Client { headers = { ["X-Key"] = "1", Accept = "a/b" }, method = "PATCH",
                             proxy = false }
      assert.equal("PATCH / ", get():body())
      get("/", { headers = { accept = "c/d" } }):body()
      assert.equal("1", server.requests[2].headers["x-key"])
      assert.equal("c/d", server.requests[2].headers.accept)
      assert.equal("PATCH", client.defaults.method)
    end)

    it("is closed as a variable", function()
      start(echo)
      do
        local own <close> = http.Client { proxy = false }
        assert(own:request(server:url()):body())
        assert.equal(1, server.open)
      end
      support.eventually(function()
        return server.open == 0
      end)
    end)
  end)
end)
