-- Which requests the server accepts, and what the application gets to see of them.

local http = require "support.http"
local support = require "support"
local wsapi = require "moonlet.wsapi"

local get, post, talk, ask, one = http.get, http.post, http.talk, http.ask, http.one

describe("moonlet.wsapi: requests:", function()
  local server, calls, log, errors

  -- A spec with a server whose application records its calls.
  local function serving(name, body)
    it(name, function()
      local app
      app, calls = http.recorder()
      log, errors = {}, {}
      server = http.serve(app, {
        log = function(line) table.insert(log, line) end,
        error_log = function(line) table.insert(errors, line) end,
      })
      local _ <close> = server
      body()
    end)
  end

  describe("the connection", function()
    serving("stays open in HTTP/1.1", function()
      local list = ask(server, get("/1") .. get("/2") .. get("/3"))
      assert.equal(3, #list)
      assert.is_nil(list[1].headers.connection)
      assert.same({ "/1", "/2", "/3" }, { calls[1].PATH_INFO, calls[2].PATH_INFO,
                                         calls[3].PATH_INFO })
    end)

    serving("is closed where close is asked for, in any case and anywhere in a list", function()
      for _, value in ipairs { "close", "CLOSE", "close, te", "te,Close", "keep-alive, close" } do
        local list = ask(server, get("/", "Connection: " .. value) .. get("/more"))
        assert.equal(1, #list, value)
        assert.equal("close", list[1].headers.connection)
      end
    end)

    serving("is closed in HTTP/1.0, unless keep-alive is asked for", function()
      local list = ask(server, http.text("GET / HTTP/1.0"):rep(2))
      assert.equal(1, #list)
      assert.equal("close", list[1].headers.connection)
      list = ask(server, http.text("GET / HTTP/1.0", { "Connection: Keep-Alive" }):rep(2))
      assert.equal(2, #list)
      assert.equal("keep-alive", list[2].headers.connection)
    end)

    serving("may carry requests cut anywhere", function()
      local text = get("/one") .. post("/two", "abc") .. get("/three", "Connection: close")
      local client = http.connect(server)
      for i = 1, #text do
        assert(client:send(text:sub(i, i)))
        support.turns(1)
      end
      local data = client:receive("*a")
      client:close()
      assert.equal(3, #http.parse(data))
      assert.equal("abc", calls[2].body)
    end)
  end)

  serving("whatever their version, are answered as HTTP/1.1", function()
    assert.equal("1.1", one(server, http.text("GET / HTTP/1.0")).version)
    assert.equal("1.1", one(server, "GET /\r\n").version)
  end)

  serving("of HTTP/0.9 get a whole response, after which the connection is closed", function()
    local list = ask(server, "GET /path\r\n" .. get("/more"))
    assert.equal(1, #list)
    assert.same({ 200, "ok", "close" }, { list[1].status, list[1].body,
                                         list[1].headers.connection })
    assert.equal("HTTP/0.9", calls[1].SERVER_PROTOCOL)
    assert.equal("/path", calls[1].PATH_INFO)
    assert.equal(400, one(server, "POST /path\r\n").status)
  end)

  describe("that are wrong", function()
    -- One answer with this status and no body, and the connection closed.
    local function refused(status, text)
      local list = ask(server, text .. get("/smuggled"))
      assert.equal(1, #list, text)
      local answer = list[1]
      assert.same({ status, "", "close" }, { answer.status, answer.body,
                                            answer.headers.connection }, text)
      assert.same({}, calls, text)
    end

    serving("in the first line are answered 400, logged, and shown to no application", function()
      for _, line in ipairs { "GET", "GET / a HTTP/1.1", "GET / HTTP/2.0", "GET / http/1.1",
                              "GET / HTTP/1.1.1", "", "GET / HTTP/0.9", "GET  / HTTP/1.1",
                              "\1\2\3", "GET a HTTP/1.1", "GET /#a HTTP/1.1",
                              "GET * HTTP/1.1" } do
        log, errors = {}, {}
        refused(400, http.text(line))
        assert.equal(1, #log)
        assert.matches('"[^"]*" 400 0 ', log[1])
        assert.equal(1, #errors)
        assert.matches("^127.0.0.1: bad request", errors[1])
      end
      refused(400, http.text("GET /%s%d HTTP/3.1"))
      assert.matches('"GET /%%s%%d HTTP/3.1" 400', log[#log])
      refused(400, http.text('GET /a"b\\ HTTP/3.1'))
      assert.matches('"GET /a\\x22b\\x5c HTTP/3.1" 400', log[#log])
    end)

    serving("with 8192 bytes or more in the first line are answered 414, and not in the error log",
       function()
         local function line(length)
           return "GET /" .. ("a"):rep(length - 16) .. " HTTP/1.1"
         end
         refused(414, http.text(line(8192)))
         refused(414, "GET /" .. ("a"):rep(100000))
         assert.equal(2, #log)
         assert.matches('" 414 0 ', log[1])
         assert.same({}, errors)
         assert.equal(200, one(server, http.text(line(8191))).status)
       end)

    serving("with too long or too many headers are answered 431", function()
      refused(431, get("/", "A: " .. ("a"):rep(8192)))
      refused(431, http.text("GET / HTTP/1.1", { ("A: b\r\n"):rep(100) .. "A: b" }))
      refused(431, http.text("GET / HTTP/1.1", { ("A: " .. ("b"):rep(8000) .. "\r\n"):rep(9) ..
                                                 "A: b" }))
    end)

    serving("in their length are answered 400", function()
      for _, value in ipairs { "-1", "", "abc", "+3", "1_0", "0x3", "3, 3", "1 2",
                               "18446744073709551617" } do
        refused(400, http.text("POST / HTTP/1.1", { "Content-Length: " .. value }, "abc"))
      end
      refused(400, http.text("HEAD / HTTP/1.1", { "Content-Length: 3" }, "abc"))
      refused(400, http.text("HEAD / HTTP/1.1", { "Transfer-Encoding: chunked" }, "0\r\n\r\n"))
    end)

    serving("that could hide another one are answered 400", function()
      local inner = get("/smuggled")
      local length = "Content-Length: " .. #inner
      for _, fields in ipairs {
        { length, "Content-Length: 3" }, { "Content-Length: 3", length }, { length, length },
        { "Content-Length : " .. #inner }, { "Content-Length\t: " .. #inner },
        { "A", length }, { "A: b\r\n " .. length }, { "A: b\r\n\t" .. length },
        { length, "Transfer-Encoding: chunked" }, { "Transfer-Encoding: chunked", length },
        { "A: b\n" .. length }, { "A: b\r" .. length }, { "A: \0", length }, { "A\0: b", length },
        { ": b", length }, { "(): b", length }, { " A: b", length }, { "Host: there" },
      } do
        refused(400, http.text("POST / HTTP/1.1", fields, inner))
      end
      refused(400, "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n")
    end)

    serving("in Host are answered 400: none in 1.1, two, or what cannot be one", function()
      refused(400, "GET / HTTP/1.1\r\n\r\n")
      refused(400, "GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n")
      refused(400, "GET / HTTP/1.1\r\nHost: a b\r\n\r\n")
      refused(400, "GET / HTTP/1.1\r\nHost: a/b\r\n\r\n")
    end)

    serving("with an unknown transfer coding are answered 501", function()
      for _, value in ipairs { "gzip", "gzip, chunked", "identity", "xchunked", "chunked, gzip" } do
        refused(501, http.text("POST / HTTP/1.1", { "Transfer-Encoding: " .. value },
                               get("/smuggled")))
      end
    end)

    serving("with a bare LF at the end of a line are answered 400", function()
      refused(400, "GET / HTTP/1.1\nHost: here\n\n")
      refused(400, "GET / HTTP/1.1\r\nHost: here\r\n\n")
    end)

    serving("with too large a body are answered 413 before it is there", function()
      refused(413, http.text("POST / HTTP/1.1", { "Content-Length: 1073741825" }))
    end)
  end)

  describe("the environment", function()
    local function env_of(text)
      one(server, text)
      return calls[#calls]
    end

    serving("has the path with its escapes decoded and the query as it was sent", function()
      local env = env_of(get("/a%20b%2Fc%00%ff%zz%4?d=%20&e"))
      assert.equal("/a b/c\0\255%zz%4", env.PATH_INFO)
      assert.equal("d=%20&e", env.QUERY_STRING)
      assert.equal("/a%20b%2Fc%00%ff%zz%4?d=%20&e", env.REQUEST_URI)
      assert.equal("", env.SCRIPT_NAME)
      assert.equal("", env_of(get("/")).QUERY_STRING)
      assert.equal("a?b", env_of(get("/?a?b")).QUERY_STRING)
    end)

    serving("has any method", function()
      for _, method in ipairs { "GET", "POST", "DELETE", "get", "FROB", "M-SEARCH" } do
        assert.equal(method, env_of(http.text(method .. " / HTTP/1.1")).REQUEST_METHOD)
      end
    end)

    serving("has the headers, repeated ones joined by a comma, cookies by a semicolon", function()
      local env = env_of(get("/", "A-b: 1", "Cookie: x=1", "a-B:2 ", "cookie: y=2", "Empty:",
                             "X: Gr\195\188n"))
      assert.equal("1,2", env.HTTP_A_B)
      assert.equal("x=1; y=2", env.HTTP_COOKIE)
      assert.equal("", env.HTTP_EMPTY)
      assert.equal("Gr\195\188n", env.HTTP_X)
      assert.equal("here", env.HTTP_HOST)
    end)

    serving("leaves out names that could pass for others", function()
      local env = env_of(get("/", "X_Real: evil", "X-Real: good", "Proxy: evil"))
      assert.equal("good", env.HTTP_X_REAL)
      assert.is_nil(env.HTTP_PROXY)
    end)

    serving("has CONTENT_TYPE and CONTENT_LENGTH only where they were sent", function()
      local env = env_of(get("/"))
      assert.is_nil(env.CONTENT_TYPE)
      assert.is_nil(env.CONTENT_LENGTH)
      env = env_of(post("/", "abc", "Content-Type: text/x"))
      assert.equal("text/x", env.CONTENT_TYPE)
      assert.equal("3", env.CONTENT_LENGTH)
      assert.is_nil(env.HTTP_CONTENT_TYPE)
      assert.is_nil(env.HTTP_CONTENT_LENGTH)
    end)

    serving("has the addresses of both ends, and what CGI asks for", function()
      local client = http.connect(server)
      local host, port = client:getsockname()
      client:send(get("/", "Connection: close"))
      client:receive("*a")
      client:close()
      local env = calls[1]
      assert.same({ host, tostring(port) }, { env.REMOTE_ADDR, env.REMOTE_PORT })
      assert.same({ "127.0.0.1", tostring(server.address[2]) }, { env.SERVER_NAME,
                                                                 env.SERVER_PORT })
      assert.equal("CGI/1.1", env.GATEWAY_INTERFACE)
      assert.equal("HTTP/1.1", env.SERVER_PROTOCOL)
      assert.matches("^Moonlet", env.SERVER_SOFTWARE)
      assert.equal("http", env["wsapi.url_scheme"])
      assert.is_nil(env.HTTPS)
      assert.same({ false, false, false }, { env["wsapi.multithread"], env["wsapi.multiprocess"],
                                            env["wsapi.run_once"] })
      assert.equal("HTTP/1.0", env_of("GET / HTTP/1.0\r\n\r\n").SERVER_PROTOCOL)
    end)

    serving("takes the host from the target if that names one", function()
      local env = env_of(http.text("GET http://there:8080/path?q HTTP/1.1"))
      assert.equal("there:8080", env.HTTP_HOST)
      assert.equal("/path", env.PATH_INFO)
      assert.equal("q", env.QUERY_STRING)
      env = env_of(http.text("GET http://there?q HTTP/1.1"))
      assert.same({ "/", "q" }, { env.PATH_INFO, env.QUERY_STRING })
    end)

    serving("has PATH_INFO * of OPTIONS for the server as a whole", function()
      assert.equal("*", env_of(http.text("OPTIONS * HTTP/1.1")).PATH_INFO)
    end)

    serving("has the variables that the server was given", function()
      local app, own = http.recorder()
      local it <close> = http.serve(app, { env = { APP_PATH = "/srv", ["my.object"] = calls } })
      one(it, get("/"))
      assert.equal("/srv", own[1].APP_PATH)
      assert.equal(calls, own[1]["my.object"])
    end)

    serving("is one of each request, and may be written to", function()
      local seen = support.trace()
      local it <close> = http.serve(function(env)
        seen(env.mine, env.SCRIPT_NAME)
        env.mine, env.SCRIPT_NAME = "x", "/changed"
        return 200, nil, env.SCRIPT_NAME
      end)
      local list = ask(it, get("/") .. get("/"))
      assert.equal("nil  nil ", tostring(seen))
      assert.equal("/changed", list[2].body)
    end)
  end)

  describe("an application", function()
    local function says(app)
      local it <close> = http.serve(app)
      return one(it, get("/")).body
    end

    local function hello()
      return 200, {}, "hello"
    end

    it("is a function, a callable table, or a table with run", function()
      assert.equal("hello", says(hello))
      assert.equal("hello", says(setmetatable({}, { __call = hello })))
      assert.equal("hello", says { run = hello })
    end)

    it("may be named as a module", function()
      package.preload["spec.hello"] = function()
        return { run = hello }
      end
      assert.equal("hello", says "spec.hello")
      package.preload["spec.hello"], package.loaded["spec.hello"] = nil, nil
      assert.error_matches(function() wsapi.WSAPIServer(0, "no.such.module") end, "not found")
    end)

    it("that is none is refused", function()
      for _, app in ipairs { 1, {}, true } do
        assert.error_matches(function() wsapi.WSAPIServer(0, app) end,
                             "bad argument #2 to 'WSAPIServer' %(application expected, got")
      end
      assert.error_matches(function() wsapi.WSAPIServer(0) end,
                           "application expected, got no value")
      assert.error_matches(function() wsapi.WSAPIServer("no:port:here", hello) end,
                           "bad argument #1")
      for _, name in ipairs { "header_timeout", "idle_timeout", "body_timeout", "body_rate",
                              "max_body", "max_discard", "max_line", "max_headers",
                              "max_header_bytes", "linger_timeout" } do
        assert.error_matches(function() wsapi.WSAPIServer(0, hello, { [name] = "x" }) end,
                             "bad argument #3 to 'WSAPIServer' %(" .. name)
      end
    end)
  end)

  serving("says what it is", function()
    assert.matches("^<WSAPIServer 127.0.0.1:%d+: started", tostring(server))
    assert.equal("", talk(server, ""))
  end)
end)
