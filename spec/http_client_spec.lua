local http = require "moonlet.http"
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
end)
