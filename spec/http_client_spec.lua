local http = require "moonlet.http"
local moonlet = require "moonlet"
local socket = require "moonlet.socket"
local support = require "support"
local web = require "support.web"
local zlib = require "moonlet.zlib"

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

describe("moonlet.http", function()
  local server, client

  -- Starts the server of a spec, which is ended with it.
  local function start(answer, options)
    client = http.Client { proxy = false }
    server = web.serve(answer, options)
    finally(function()
      client:close()
      server:stop()
      os.remove(options and options.unix or "")
    end)
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

  describe("a request", function()
    it("by its URL only gets the answer", function()
      start(echo)
      local response = assert(http.request(server:url("/path?query#fragment")))
      assert.equal(200, response.status)
      assert.equal("Fine", response.reason)
      assert.equal("1.1", response.version)
      assert.equal("1", response.headers["x-connection"])
      assert.equal("1", response.headers["X-Connection"])
      assert.is_nil(response.headers["X-Other"])
      assert.equal("X-Connection", response.headers[1])
      assert.equal(server:url("/path?query"), response.url)
      assert.equal("GET /path?query ", response:body())
      assert.equal("", response:body())
      assert.is_nil(response:read())
    end)

    it("has a head that servers know what to do with", function()
      start(echo)
      assert(get())
      local headers = server.requests[1].headers
      assert.equal("127.0.0.1:" .. server.port, headers.host)
      assert.equal("Host", headers[1])
      assert.equal("gzip, deflate", headers["accept-encoding"])
      assert.equal("*/*", headers.accept)
      assert.equal("moonlet", headers["user-agent"])
      assert.is_nil(headers["content-length"])
      assert.is_nil(headers["transfer-encoding"])
      assert.is_nil(headers.cookie)
      assert.is_nil(headers.connection)
    end)

    it("sends the fields it is given, repeated ones and none at all, too", function()
      start(echo)
      assert(get("/", { headers = { ["X-One"] = 1, ["x-list"] = { "a", "b" }, Accept = "text/html",
                                    ["User-Agent"] = false, host = "other", Empty = "",
                                    Trim = "\t x " } }))
      local headers = server.requests[1].headers
      assert.equal("1", headers["x-one"])
      assert.equal("a, b", headers["x-list"])
      assert.equal("text/html", headers.accept)
      assert.equal("other", headers.host)
      assert.equal("", headers.empty)
      assert.equal("x", headers.trim)
      assert.is_nil(headers["user-agent"])
    end)

    it("sends the user of the URL as authorization, unless a header does", function()
      start(echo)
      local function authorization(user, headers)
        local address = server:url():gsub("//", function()
          return "//" .. user .. "@"
        end)
        assert(client:request { url = address, headers = headers })
        return server.requests[#server.requests].headers.authorization
      end
      assert.equal("Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==", authorization("Aladdin:open%20sesame"))
      assert.equal("Basic dTo=", authorization("u"))
      assert.equal("Basic dTpw", authorization("u:p"))
      assert.equal("Basic Og==", authorization(""))
      assert.equal("Mine", authorization("u", { Authorization = "Mine" }))
    end)

    it("sends a string as its body", function()
      start(echo)
      assert.equal("POST / hello", get("/", { body = "hello" }):body())
      assert.equal("PUT / ", get("/", { method = "PUT" }):body())
      assert.equal("0", server.requests[2].headers["content-length"])
      assert.equal("GET / hi", get("/", { method = "GET", body = "hi" }):body())
      assert.equal("POST / ", get("/", { body = "" }):body())
      assert.equal("DELETE / ", get("/", { method = "DELETE" }):body())
      assert.is_nil(server.requests[5].headers["content-length"])
      local large = ("0123456789"):rep(300000)
      assert.equal("POST / " .. large, get("/", { body = large }):body())
      assert.equal("POST / x", get("/", { body = "x",
                                          headers = { ["content-length"] = 1 } }):body())
      assert.equal(1, server.count)
    end)

    it("sends what a function returns, in chunks", function()
      start(echo)
      local pieces = { "one", "", ("2"):rep(100000), "three" }
      local response = get("/", { body = each(pieces) })
      assert.equal("POST / " .. table.concat(pieces), response:body())
      assert.is_true(server.requests[1].chunked)
      assert.equal("POST / ", get("/", { body = each {} }):body())
      assert.equal("POST / x", get("/", { body = each { "x" }, headers = {
        ["Transfer-Encoding"] = "chunked" } }):body())
      assert.equal(1, server.count)
    end)

    it("sends what a function returns, with its length if that is said", function()
      start(echo)
      assert.equal("PUT / onetwo", get("/", { method = "PUT", body = each { "one", "two" },
                                              length = 6 }):body())
      assert.equal("6", server.requests[1].headers["content-length"])
      assert.is_false(server.requests[1].chunked)
      assert.equal("POST / abc", get("/", { body = each { "abc" }, headers = {
        ["Content-Length"] = "3" } }):body())
      assert.equal("3", server.requests[2].headers["content-length"])
      assert.equal(1, server.count)
    end)

    it("may have a method of any name, but CONNECT", function()
      start(echo)
      assert.equal("PROPFIND / ", get("/", { method = "PROPFIND" }):body())
      assert.equal("m-search / ", get("/", { method = "m-search" }):body())
      for _, method in ipairs { "CONNECT", "", "A B", "A\r\n" } do
        assert.error_matches(function()
          get("/", { method = method })
        end, "^bad field 'method' of the request")
      end
    end)

    it("that is misused raises an error", function()
      start(echo)
      for message, options in pairs {
        ["bad field 'url' of the request (string expected, got nothing)"] = {},
        ["bad field 'url' of the request (invalid URL \"x\" (scheme://host expected))"] = {
          url = "x" },
        ["bad field 'url' of the request (unknown scheme 'ftp')"] = { url = "ftp://host:21/" },
        ["bad field 'timeout' of the request (number expected, got string)"] = { timeout = "1" },
        ["bad field 'body' of the request (function or string expected, got table)"] = {
          body = {} },
        ["bad field 'headers' of the request (table expected, got string)"] = { headers = "a" },
        ["bad field 'length' of the request (a number of bytes expected)"] = { length = -1 },
        ["bad field 'length' of the request (the body has 1 bytes)"] = { body = "x", length = 2 },
        ["bad header name \"a b\""] = { headers = { ["a b"] = "x" } },
        ["bad header name \"1\""] = { headers = { "x" } },
        ["bad header name \"a:\""] = { headers = { ["a:"] = "x" } },
        ["bad header name \"\""] = { headers = { [""] = "x" } },
        ["bad value of header 'a' (a line break or NUL in it)"] = { headers = { a = "x\r\nb: c" } },
        ["bad value of header 'b' (a line break or NUL in it)"] = { headers = { b = "x\ny" } },
        ["bad value of header 'c' (a line break or NUL in it)"] = { headers = { c = { "x\0y" } } },
        ["bad value of header 'd' (string expected, got boolean)"] = { headers = { d = true } },
        ["bad value of header 'e' (string expected, got table)"] = { headers = { e = { {} } } },
        ["header 'a' is there twice"] = { headers = { a = "x", A = "y" } },
        ["bad value of header 'Content-Length' (not the body's length)"] = {
          body = each {}, length = 1, headers = { ["Content-Length"] = "2" } },
        ["bad header 'Transfer-Encoding' (only a function's body may be sent in chunks)"] = {
          body = "x", headers = { ["Transfer-Encoding"] = "chunked" } },
        ["bad field 'proxy' of the request (a proxy is spoken to by http, not socks5)"] = {
          proxy = "socks5://host:1080" },
      } do
        if message:find("'url'", 1, true) == nil then
          options.url = server:url()
        end
        local err = support.error_of(function()
          client:request(options)
        end)
        assert.equal(message, err:match("^spec/http_client_spec%.lua:%d+: (.*)$"), err)
      end
      for _, wrong in ipairs { 1, true, print } do
        assert.error_matches(function()
          client:request(wrong)
        end, "^bad argument #1 to 'request' %(string or table expected, got " ..
             type(wrong))
      end
      assert.error_matches(function()
        http.request()
      end, "bad argument #1 to 'request' %(string or table expected, got no value%)")
      assert.error_matches(function()
        http.Client(1)
      end, "^bad argument #1 to 'Client' %(table expected, got number%)")
      assert.error_matches(function()
        http.Client { max_connections = 0 }
      end, "^bad field 'max_connections' of the client")
      assert.equal(0, server.count)
    end)

    it("may be made from anywhere, inside a coroutine or a metamethod", function()
      start(echo)
      local object = setmetatable({}, { __index = function(_, name)
        return get("/" .. name):body()
      end })
      assert.equal("GET /a ", object.a)
      assert.equal("GET /b ", coroutine.wrap(function()
        return get("/b"):body()
      end)())
      assert.equal("GET /c ", (("x"):gsub("x", function()
        return get("/c"):body()
      end)))
    end)

    it("goes to a host by IPv6", function()
      start(echo, { host = "[::1]" })
      assert.equal("GET / ", get():body())
      assert.equal("[::1]:" .. server.port, server.requests[1].headers.host)
    end)

    it("goes to a host by its name", function()
      start(echo)
      assert.equal("GET /x ", client:request("http://localhost:" .. server.port .. "/x"):body())
    end)

    it("goes by a unix socket", function()
      local path = os.tmpname()
      os.remove(path)
      start(echo, { unix = path })
      local response = assert(client:request { url = "http://docker/x", unix = path })
      assert.equal("GET /x ", response:body())
      assert.equal("docker", server.requests[1].headers.host)
      assert(client:request { url = "http://docker/y", unix = path }:body())
      assert.equal(1, server.count)
      assert.same({ n = 3, nil, "No such file or directory", 2 },
                  table.pack(client:request { url = "http://docker/", unix = path .. "x" }))
    end)

    it("that finds nobody says why", function()
      start(echo)
      server.listener:close()
      local response, message, number = get()
      assert.is_nil(response)
      assert.equal("connection refused", message)
      assert.equal(111, number)
      response, message = client:request("http://nowhere.invalid/")
      assert.is_nil(response)
      assert.truthy(message:find("not"), message)
    end)
  end)

  describe("an answer", function()
    local function answer(text, close)
      start(function(peer)
        peer:send(text)
        return close
      end)
    end

    it("is read piece by piece, as one likes", function()
      answer("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n0123456789")
      local response = assert(get())
      assert.equal("<Response 200, read>", tostring(response))
      assert.equal("012", response:read(3))
      assert.equal("", response:read(0))
      assert.equal("3456", response:read(4))
      assert.equal("789", response:read(4))
      assert.is_nil(response:read(4))
      assert.is_nil(response:read())
      assert.equal("", response:body())
      assert.equal("0123456789", get():read())
      assert.equal("0123456789", get():read(100))
      for _, wrong in ipairs { -1, 1.5, "x" } do
        assert.error_matches(function()
          response:read(wrong)
        end, "^bad argument #1 to 'read' %(a number of bytes expected%)")
        assert.error_matches(function()
          response:body(wrong)
        end, "^bad argument #1 to 'body'")
      end
    end)

    it("is read by a loop, as its pieces come", function()
      local go = require("moonlet.event").Event()
      start(function(peer)
        peer:send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")
        go:wait()
        peer:send("6\r\n world\r\n0\r\n\r\n")
      end)
      local pieces = {}
      for piece in get() do
        table.insert(pieces, piece)
        go:set()
      end
      assert.same({ "hello", " world" }, pieces)
    end)

    it("in chunks may have fields behind it", function()
      answer("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n" ..
             "3;ext=1\r\nabc\r\n2\r\nde\r\n0\r\nX-Sum: 7\r\n\r\n")
      local response = get()
      assert.equal("abcde", response:body())
      assert.equal("7", response.trailers["x-sum"])
      assert.is_nil(response.headers["x-sum"])
      assert.equal("abcde", get():body())
      assert.equal(1, server.count)
    end)

    it("may end with the connection", function()
      answer("HTTP/1.1 200 OK\r\n\r\nall of it", true)
      assert.equal("all of it", get():body())
      assert.equal("all of it", get():body())
      assert.equal(2, server.count)
    end)

    it("of HTTP/1.0 ends the connection, unless it says otherwise", function()
      start(function(peer, request)
        local keep = request.target == "/keep" and "Connection: keep-alive\r\n" or ""
        peer:send("HTTP/1.0 200 OK\r\n" .. keep .. "Content-Length: 2\r\n\r\nhi")
      end)
      assert.equal("1.0", get("/keep").version)
      assert.equal("hi", get("/keep"):body())
      assert.equal(1, server.count)
      assert.equal("hi", get("/"):body())
      assert.equal("hi", get("/"):body())
      assert.equal(2, server.count)
    end)

    it("to HEAD, and those of status 204 and 304, have no body", function()
      start(function(peer, request)
        if request.method == "HEAD" then
          peer:send("HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Encoding: gzip\r\n\r\n")
        elseif request.target == "/204" then
          peer:send("HTTP/1.1 204 No Content\r\n\r\n")
        elseif request.target == "/304" then
          peer:send("HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n")
        else
          peer:reply(nil, nil, "body")
        end
      end)
      for _ = 1, 2 do
        assert.equal("", get("/", { method = "HEAD" }):body())
        assert.equal("", get("/204"):body())
        assert.equal("", get("/304"):body())
        assert.equal("body", get():body())
      end
      assert.equal(1, server.count)
    end)

    it("comes behind informational ones", function()
      answer("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" ..
             "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi")
      local response = get()
      assert.equal(200, response.status)
      assert.is_nil(response.headers.link)
      assert.equal("hi", response:body())
      assert.equal("hi", get():body())
      assert.equal(1, server.count)
    end)

    it("is given with all errors of HTTP", function()
      start(function(peer, request)
        peer:reply(request.target:sub(2) .. " Status", nil, "text")
      end)
      for _, status in ipairs { 300, 400, 404, 418, 500, 503, 599 } do
        local response = get("/" .. status)
        assert.equal(status, response.status)
        assert.equal("text", response:body())
      end
      assert.equal(1, server.count)
    end)

    it("has fields of Set-Cookie one by one", function()
      answer("HTTP/1.1 200 OK\r\nSet-Cookie: a=1, x\r\nset-cookie: b=2\r\n" ..
             "Content-Length: 0\r\n\r\n")
      local found, headers = {}, get().headers
      for i = 1, #headers, 2 do
        if headers[i]:lower() == "set-cookie" then
          table.insert(found, headers[i + 1])
        end
      end
      assert.same({ "a=1, x", "b=2" }, found)
    end)

    it("that is switched to another protocol gives the connection away", function()
      start(function(peer)
        peer:send("HTTP/1.1 101 Switching\r\nUpgrade: chat\r\nConnection: upgrade\r\n\r\nhello")
        if peer.stream:receive(3) == "you" then
          peer:send("bye")
        end
        return true
      end)
      local response = assert(get("/", { headers = { Upgrade = "chat", Connection = "Upgrade" } }))
      assert.equal(101, response.status)
      assert.equal("", response:body())
      local stream <close>, data = response:detach()
      assert.equal("hello", data)
      assert(stream:send("you"))
      assert.equal("bye", stream:receive(3))
      assert.error_matches(function()
        response:detach()
      end, "no connection to give away")
      response:close()
      response = assert(get("/", { headers = { Upgrade = "chat", Connection = "Upgrade" } }))
      response:close()
      fails("invalid response: another protocol that was not asked for", get())
    end)

    it("is unpacked", function()
      local text = ("All work and no play makes Jack a dull boy.\n"):rep(20000)
      local function pack(format, data)
        return zlib.deflate(format):write(data, "finish")
      end
      local bodies = {
        ["gzip"] = pack("gzip", text),
        ["x-gzip"] = pack("gzip", text),
        ["GZIP"] = pack("gzip", text:sub(1, 99999)) .. pack("gzip", text:sub(100000)),
        ["deflate"] = pack("zlib", text),
        ["Deflate"] = pack("raw", text),
        ["gZip"] = pack("gzip", text) .. ("\0"):rep(100),
      }
      start(function(peer, request)
        local coding = request.target:sub(2)
        peer:reply(nil, "Content-Encoding: " .. coding .. "\r\n", bodies[coding])
      end)
      for coding, packed in pairs(bodies) do
        assert.equal(text, get("/" .. coding):body(), coding)
        assert.equal(packed, get("/" .. coding, { decode = false }):body())
        assert.equal(packed, get("/" .. coding, { headers = { ["Accept-Encoding"] = "gzip" } })
          :body())
        local parts, response = {}, get("/" .. coding)
        for part in function() return response:read(7001) end do
          table.insert(parts, part)
        end
        assert.equal(text, table.concat(parts), coding)
      end
      assert.equal(1, server.count)
    end)

    it("in an unknown coding is left as it is", function()
      answer("HTTP/1.1 200 OK\r\nContent-Encoding: br\r\nContent-Length: 3\r\n\r\n\1\2\3")
      assert.equal("\1\2\3", get():body())
    end)

    it("packed to nothing is nothing", function()
      answer("HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 0\r\n\r\n")
      assert.equal("", get():body())
    end)

    it("does not become larger than body allows", function()
      local bomb = zlib.deflate():write(("\0"):rep(20000000), "finish")
      start(function(peer, request)
        if request.target == "/bomb" then
          peer:reply(nil, "Content-Encoding: gzip\r\n", bomb)
        else
          peer:reply(nil, nil, ("x"):rep(1000))
        end
      end)
      assert.equal(1000, #get():body(1000))
      local response = get()
      local data, message, partial = response:body(999)
      assert.is_nil(data)
      assert.equal("too long", message)
      assert.equal(1000, #partial)
      assert.same({ n = 3, nil, "too long", "" }, table.pack(response:body()))
      assert.equal("<Response 200, failed>", tostring(response))
      response = get("/bomb")
      data, message, partial = response:body(100000)
      assert.is_nil(data)
      assert.equal("too long", message)
      assert.is_true(#partial < 3000000, #partial)
      assert.equal(20000000, #get("/bomb"):body())
    end)
  end)

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
