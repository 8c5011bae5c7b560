local Event = require("moonlet.event").Event
local certificates = require "support.certificates"
local http = require "moonlet.http"
local moonlet = require "moonlet"
local support = require "support"
local web = require "support.web"
local web2 = require "support.web2"
local zlib = require "moonlet.zlib"

-- A function that gives the pieces of a list one by one.
local function each(list)
  local i = 0
  return function()
    i = i + 1
    return list[i]
  end
end

describe("moonlet.http by HTTP/2", function()
  local folder, server, client

  setup(function()
    folder = certificates.folder()
    folder:root("ca")
    folder:issue("server", { names = "DNS:localhost,IP:127.0.0.1" })
  end)

  teardown(function()
    folder:remove()
  end)

  local function echo(exchange)
    local body = exchange:body()
    exchange:reply(nil, nil, ("%s %s %s"):format(exchange.method, exchange.target, body))
  end

  local function new_client(options)
    options = options or {}
    options.proxy, options.ssl = false, { cafile = folder:file("ca.pem") }
    client = http.Client(options)
  end

  local function start(answer, limits)
    new_client()
    server = web2.serve(answer or echo, { tls = folder:params("server", "server"),
                                          limits = limits, backlog = 1000 })
    finally(function()
      client:close()
      server:stop()
    end)
  end

  local function get(path, options)
    options = options or {}
    options.url = server:url(path)
    local response, message, number = client:request(options)
    return response, message, number
  end

  local function idle()
    return tonumber(tostring(client):match("%d+"))
  end

  it("asks and is answered where the server has it", function()
    start(function(exchange)
      exchange:head("200 OK\r\nX-A: b\r\nSet-Cookie: c=d\r\nSet-Cookie: e=f", true)
      exchange:send("hello")
      exchange:send(" world", true)
    end)
    local response = assert(get("/path?query", { headers = { ["X-One"] = "1" } }))
    assert.equal(200, response.status)
    assert.equal("2", response.version)
    assert.equal("", response.reason)
    assert.equal("b", response.headers["x-a"])
    assert.equal("hello world", response:body())
    assert.equal("", response:body())
    local request = server.requests[1]
    assert.equal("GET", request.method)
    assert.equal("/path?query", request.target)
    assert.equal("127.0.0.1:" .. server.port, request.headers.host)
    assert.equal("1", request.headers["x-one"])
    assert.equal("<Response 200, read>", tostring(response))
  end)

  it("uses one connection for all requests", function()
    start()
    for i = 1, 5 do
      assert.equal("GET /" .. i .. " ", get("/" .. i):body())
    end
    get()
    assert.equal(1, server.count)
    support.eventually(function()
      return idle() == 1
    end)
  end)

  it("carries many requests at once, also those that come while it is made", function()
    start(function(exchange)
      moonlet.sleep(0.01)
      echo(exchange)
    end)
    local list = {}
    for i = 1, 500 do
      list[i] = moonlet.spawn(function()
        local body = i % 3 == 0 and "x" or i % 3 == 1 and each { "a", "b" } or nil
        return get("/" .. i, { body = body }):body()
      end)
    end
    moonlet.joinall(list, nil, true)
    for i, g in ipairs(list) do
      local expected = i % 3 == 0 and "POST /%d x" or i % 3 == 1 and "POST /%d ab" or "GET /%d "
      assert.equal(expected:format(i), g.value)
    end
    assert.equal(1, server.count)
    assert.is_true(server.streams > 10 and server.streams <= 100, server.streams)
  end)

  it("sends and receives large bodies", function()
    start()
    local large = ("0123456789"):rep(200000)
    assert.is_true(get("/", { body = large }):body() == "POST / " .. large)
    local pieces = {}
    for i = 1, 20 do
      pieces[i] = large:sub(1, 100000)
    end
    assert.is_true(get("/", { body = each(pieces) }):body() == "POST / " .. large)
    assert.is_true(get("/", { body = each(pieces), length = #large }):body() == "POST / " .. large)
    assert.equal(tostring(#large), server.requests[3].headers["content-length"])
    assert.equal("POST / ", get("/", { body = "" }):body())
    assert.equal("POST / ", get("/", { body = each {} }):body())
    assert.equal(1, server.count)
  end)

  it("streams both ways at once", function()
    start(function(exchange)
      exchange:head("200 OK", true)
      for piece in exchange.piece, exchange do
        exchange:send(piece)
      end
      exchange:send("", true)
    end)
    local seen, count = Event(), 0
    local response = assert(get("/", { body = function()
      seen:wait()
      seen:clear()
      count = count + 1
      return count <= 5 and "piece " .. count or nil
    end }))
    local pieces = {}
    seen:set()
    for piece in response do
      table.insert(pieces, piece)
      seen:set()
    end
    assert.equal("piece 1,piece 2,piece 3,piece 4,piece 5", table.concat(pieces, ","))
  end)

  it("stops only the stream that nobody reads", function()
    start(function(exchange)
      exchange:reply(nil, nil, exchange.target == "/large" and ("x"):rep(5000000) or "small")
    end)
    local large = assert(get("/large"))
    for _ = 1, 5 do
      assert.equal("small", get("/small"):body())
    end
    assert.equal("<Response 200, open>", tostring(large))
    assert.equal(5000000, #large:body())
    assert.equal(1, server.count)
  end)

  it("has answers without a body, in pieces, packed, and with fields behind them", function()
    start(function(exchange)
      if exchange.method == "HEAD" then
        exchange:head("200 OK\r\nContent-Length: 5")
      elseif exchange.target == "/204" then
        exchange:head("204 No Content")
      elseif exchange.target == "/103" then
        exchange:head("103 Early Hints\r\nLink: x")
        exchange:reply()
      elseif exchange.target == "/gzip" then
        exchange:reply(nil, "Content-Encoding: gzip\r\n", zlib.deflate():write("packed", "finish"))
      else
        exchange:head("200 OK", true)
        exchange:send("body", true, "X-Sum: 7\r\n")
      end
    end)
    assert.equal("", get("/", { method = "HEAD" }):body())
    assert.equal(204, get("/204").status)
    assert.equal(200, get("/103").status)
    assert.equal("packed", get("/gzip"):body())
    local response = get("/")
    assert.equal("body", response:body())
    assert.equal("7", response.trailers["x-sum"])
  end)

  it("follows redirections, and keeps cookies", function()
    start(function(exchange)
      if exchange.target == "/go" then
        exchange:reply("302 Found", "Location: /end\r\nSet-Cookie: a=b; Secure\r\n", "there")
      else
        exchange:reply(nil, nil, exchange.headers.cookie)
      end
    end)
    new_client { cookies = true }
    assert.equal("a=b", get("/go"):body())
    assert.equal(1, server.count)
  end)

  it("does not where the client or the server does not want it", function()
    start()
    local plain <close> = web.serve(function(peer)
      peer:reply(nil, nil, "one")
    end, { tls = folder:params("server", "server", { alpn = "http/1.1" }), backlog = 100 })
    local list = {}
    for i = 1, 20 do
      list[i] = moonlet.spawn(function()
        return client:request(plain:url()):body()
      end)
    end
    moonlet.joinall(list, nil, true)
    assert.equal("1.1", client:request(plain:url()).version)
    server:stop()
    server = web.serve(function(peer)
      peer:reply(nil, nil, tostring(peer.stream:getalpn()))
    end, { tls = folder:params("server", "server", { alpn = { "h2", "http/1.1" } }) })
    client = http.Client { http2 = false, proxy = false, ssl = { cafile = folder:file("ca.pem") } }
    assert.equal("nil", get():body())
  end)

  it("is closed with the client, after the requests that are under way", function()
    local go = Event()
    start(function(exchange)
      go:wait()
      echo(exchange)
    end)
    local g = moonlet.spawn(function()
      return get():body()
    end)
    support.eventually(function()
      return #server.requests == 1
    end)
    client:close()
    go:set()
    assert.equal("GET / ", g:get())
    support.eventually(function()
      return server.open == 0
    end)
    get():body()
    client:close()
    support.eventually(function()
      return server.open == 0
    end)
    assert.equal(2, server.count)
  end)

  it("is given up after some time without requests", function()
    start()
    new_client { idle_time = 0.01 }
    get():body()
    moonlet.sleep(0.02)
    get():body()
    assert.equal(2, server.count)
  end)

  it("needs no more connections than the client may have", function()
    start(function(exchange)
      moonlet.sleep(0.005)
      echo(exchange)
    end)
    new_client { max_connections = 1 }
    local list = {}
    for i = 1, 20 do
      list[i] = moonlet.spawn(function()
        return get("/" .. i):body()
      end)
    end
    moonlet.joinall(list, nil, true)
    assert.equal(1, server.count)
    assert.is_true(server.streams > 5)
  end)

  describe("ends a stream, and no other,", function()
    local function silent()
      start(function(exchange)
        if exchange.target == "/" then
          exchange:reply(nil, nil, "other")
        elseif exchange.target == "/half" then
          exchange:head("200 OK", true)
          exchange:send("half")
        end
      end)
    end

    local function other_works()
      assert.equal("other", get():body())
      assert.equal(1, server.count)
    end

    local function closed(code)
      support.eventually(function()
        local last = server.requests[#server.requests]
        return last and last.target ~= "/" and last.closed == code
      end, 5)
    end

    it("whose request is killed", function()
      silent()
      for _, body in ipairs { "", ("x"):rep(1000000), function() moonlet.sleep(20) end } do
        local g = moonlet.spawn(get, "/silent", { body = body })
        local count = #server.requests
        support.eventually(function()
          return #server.requests > count
        end)
        g:kill()
        closed("CANCEL")
        other_works()
      end
    end)

    it("whose response is closed, or collected", function()
      silent()
      get("/half"):close()
      closed("CANCEL")
      other_works()
      get("/half")
      support.eventually(function()
        collectgarbage()
        return server.requests[3].closed
      end)
      other_works()
    end)

    it("at the timeout of its phase", function()
      silent()
      for _, options in ipairs {
        { timeout = 0.02 },
        { answer_timeout = 0.02, body = "x" },
        { answer_timeout = 0.02, body = each { "x" } },
        { send_timeout = 0.02, body = ("x"):rep(1000000) },
        { send_timeout = 0.02, body = function() moonlet.sleep(20) end },
      } do
        local response, message = get("/silent", options)
        assert.is_nil(response)
        assert.equal("timeout", message)
        closed("CANCEL")
        other_works()
      end
      local response = assert(get("/half", { timeout = 0.05 }))
      assert.same({ n = 3, nil, "timeout", "half" }, table.pack(response:body()))
      other_works()
    end)

    it("whose body's function fails", function()
      silent()
      assert.equal("oops", support.error_of(get, "/silent", { body = function()
        error("oops", 0)
      end }))
      closed("CANCEL")
      other_works()
    end)
  end)

  describe("a stream that the server ends", function()
    local function resetting(code)
      start(function(exchange)
        if #server.requests > 1 then
          return echo(exchange)
        elseif exchange.target == "/body" then
          exchange:head("200 OK", true)
          exchange:send("half")
        end
        exchange:reset(code)
      end)
    end

    it("is an error", function()
      resetting("INTERNAL_ERROR")
      local response, message = get()
      assert.is_nil(response)
      assert.equal("the server has ended the stream: INTERNAL_ERROR", message)
      assert.equal("GET / ", get():body())
      assert.equal(1, server.count)
    end)

    it("amid the body is an error", function()
      resetting("INTERNAL_ERROR")
      assert.same({ n = 3, nil, "the server has ended the stream: INTERNAL_ERROR", "half" },
                  table.pack(get("/body"):body()))
    end)

    it("before it has looked at the request is tried again", function()
      resetting("REFUSED_STREAM")
      assert.equal("POST / x", get("/", { body = "x" }):body())
      assert.equal(2, #server.requests)
    end)

    it("after a whole answer, since it does not want the rest of the request, is none", function()
      start(function(exchange)
        exchange:reply("413 Content Too Large", nil, "no")
      end)
      for _, body in ipairs { ("x"):rep(1000000), function() return ("x"):rep(10000) end } do
        local response = assert(get("/", { body = body }))
        assert.equal(413, response.status)
        assert.equal("no", response:body())
      end
      assert.equal(1, server.count)
    end)
  end)

  describe("a connection that the server ends", function()
    it("is not used again", function()
      start()
      assert.equal("GET / ", get():body())
      server.connections[1].session:goaway()
      server.connections[1]:flush()
      support.turns()
      assert.equal("GET / ", get():body())
      assert.equal(2, server.count)
      server.connections[2].peer.stream:close()
      support.turns()
      assert.equal("GET / ", get():body())
      assert.equal(3, server.count)
    end)

    it("fails what it carries", function()
      start(function(exchange)
        exchange:head("200 OK", true)
        exchange:send("half")
        exchange.connection.peer.stream:close()
      end)
      local response = assert(get())
      assert.same({ n = 3, nil, "closed", "half" }, table.pack(response:body()))
    end)

    it("as a request goes out is replaced, if that may be repeated", function()
      start(function(exchange)
        if #server.requests == 2 then
          exchange.connection.peer.stream:close()
        else
          echo(exchange)
        end
      end)
      assert.equal("GET / ", get():body())
      assert.equal("GET / ", get():body())
      assert.equal(2, server.count)
      assert.equal(3, #server.requests)
    end)

    it("by breaking the protocol is an error", function()
      start(function(exchange)
        exchange.connection.peer.stream:send(("x"):rep(1000))
      end)
      local response, message = get()
      assert.is_nil(response)
      assert.equal("string", type(message))
      support.eventually(function()
        return server.open == 0
      end)
    end)
  end)

  it("asks first whether a body is wanted", function()
    start(function(exchange)
      if exchange.target == "/no" then
        return exchange:reply("417 Expectation Failed", nil, ("x"):rep(200000))
      end
      exchange:head("100 Continue")
      echo(exchange)
    end)
    local called = false
    local response = assert(get("/no", { headers = { Expect = "100-continue" }, body = function()
      called = true
    end }))
    assert.equal(417, response.status)
    assert.equal(200000, #response:body())
    assert.is_false(called)
    assert.equal("POST / x", get("/", { headers = { Expect = "100-continue" },
                                        body = "x" }):body())
  end)
end)
