-- env.websocket: WebSockets for WSAPI applications.

local core = require "moonlet.wslay.core"
local moonlet = require "moonlet"
local socket = require "moonlet.socket"
local support = require "support"
local websocket = require "moonlet.websocket"
local wsapi = require "moonlet.wsapi"

local KEY = "dGhlIHNhbXBsZSBub25jZQ=="

describe("env.websocket", function()
  local server, url, errors, log

  -- Serves an application on a free port.
  local function serve(app, opts)
    errors, log = {}, {}
    local all = {
      log = function(line) log[#log + 1] = line end,
      error_log = function(line) errors[#errors + 1] = line end,
    }
    for name, value in pairs(opts or {}) do
      all[name] = value
    end
    server = wsapi.WSAPIServer({ "127.0.0.1", 0 }, app, all)
    assert(server:start())
    url = ("ws://127.0.0.1:%d/path?query"):format(server.address[2])
  end

  local function stop()
    server:stop(1)
    assert.same({}, errors)
  end

  -- What is answered to a request with these lines.
  local function ask(...)
    local sock <close> = assert(socket.connect("127.0.0.1", server.address[2]))
    assert(sock:send(table.concat({ ... }, "\r\n") .. "\r\n\r\n"))
    return assert(sock:receive("*a"))
  end

  local function echo(env)
    for data, kind in env.websocket do
      env.websocket:send(data, kind)
    end
  end

  it("is a WebSocket, for a request that asks for one", function()
    local seen
    serve(function(env)
      seen = env
      return echo(env)
    end)
    local ws = assert(websocket.connect(url))
    assert.is_true(ws:send("hello"))
    assert.same({ "hello", "text" }, { ws:receive() })
    assert.is_true(ws:close(4000))
    assert.equal("/path", seen.PATH_INFO)
    assert.equal("query", seen.QUERY_STRING)
    assert.equal("<WebSocket: server, closed (4000)>", tostring(seen.websocket))
    support.eventually(function()
      return #log == 1
    end)
    assert.truthy(log[1]:find('"GET /path?query HTTP/1.1" 101 ', 1, true), log[1])
    stop()
  end)

  it("is not there for other requests", function()
    serve(function(env)
      assert(env.websocket == nil)
      return 200, nil, "page"
    end)
    assert.truthy(ask("GET / HTTP/1.1", "Host: a", "Connection: close"):find("page", 1, true))
    assert.truthy(ask("GET / HTTP/1.1", "Host: a", "Upgrade: h2c", "Connection: upgrade, close")
                    :find("page", 1, true))
    stop()
  end)

  it("leaves the answer to an application that does not use it", function()
    serve(function(env)
      assert(env.websocket.state == "connecting")
      return 404, { ["Content-Type"] = "text/plain" }, "no such room"
    end)
    assert.same({ nil, "the server answered 404 Not Found", 404 }, { websocket.connect(url) })
    stop()
  end)

  it("is closed when the application returns, whatever it returns", function()
    serve(function(env)
      env.websocket:send("only this")
      return 200, nil, "ignored"
    end)
    local ws = assert(websocket.connect(url))
    assert.equal("only this", ws:receive())
    assert.same({ nil, "closed", 1000, "" }, { ws:receive() })
    stop()
  end)

  it("is closed with 1011 by an error, which is reported", function()
    serve(function(env)
      env.websocket:receive()
      error("oops")
    end)
    local ws = assert(websocket.connect(url))
    ws:send("x")
    assert.same({ nil, "closed", 1011, "" }, { ws:receive() })
    support.eventually(function()
      return #errors == 1
    end)
    assert.truthy(errors[1]:find("oops", 1, true))
    errors = {}
    stop()
  end)

  it("answers an error before it is used with 500", function()
    serve(function()
      error("oops")
    end)
    assert.same({ nil, "the server answered 500 Internal Server Error", 500 },
                { websocket.connect(url) })
    errors = {}
    stop()
  end)

  it("is closed with 1001 when the server stops", function()
    serve(echo)
    local ws = assert(websocket.connect(url))
    ws:send("x")
    assert.equal("x", ws:receive())
    local g = moonlet.spawn(ws.receive, ws)
    server:stop(0)
    assert.same({ nil, "closed", 1001, "" }, { g:get() })
    stop()
  end)

  it("takes options by accept", function()
    serve(function(env)
      env.websocket:accept { protocols = { "chat" }, compress = true, headers = { X = "y" } }
      return echo(env)
    end)
    local ws = assert(websocket.connect(url, { protocols = { "chat" }, compress = true }))
    assert.equal("chat", ws.protocol)
    assert.equal("y", ws.headers.x)
    assert.equal("permessage-deflate", ws.headers["sec-websocket-extensions"])
    local data = ("again "):rep(10000)
    ws:send(data)
    assert.equal(data, ws:receive())
    assert.is_true(ws:close())
    stop()
  end)

  it("is refused to a page from elsewhere", function()
    serve(echo)
    assert.same({ nil, "the server answered 403 Forbidden", 403 },
                { websocket.connect(url, { origin = "http://evil.com" }) })
    assert(websocket.connect(url, { origin = "http://127.0.0.1:" .. server.address[2] })):close()
    stop()
  end)

  it("is refused to what is no right request for it", function()
    serve(echo)
    local answer
    for _ = 1, 2 do
      answer = ask("GET / HTTP/1.1", "Host: a", "Upgrade: websocket", "Connection: Upgrade",
                   "Sec-WebSocket-Key: " .. KEY, "Sec-WebSocket-Version: 8")
      assert.equal(2, select(2, answer:gsub("\r\nConnection: ", "%0")))
    end
    assert.truthy(answer:find("^HTTP/1.1 426 "), answer)
    assert.truthy(answer:find("\r\nSec-WebSocket-Version: 13\r\n", 1, true), answer)
    answer = ask("GET / HTTP/1.1", "Host: a", "Upgrade: websocket", "Connection: Upgrade",
                 "Sec-WebSocket-Key: short", "Sec-WebSocket-Version: 13")
    assert.truthy(answer:find("^HTTP/1.1 400 "), answer)
    answer = ask("POST / HTTP/1.1", "Host: a", "Upgrade: websocket", "Connection: Upgrade",
                 "Content-Length: 0", "Sec-WebSocket-Key: " .. KEY, "Sec-WebSocket-Version: 13")
    assert.truthy(answer:find("^HTTP/1.1 405 "), answer)
    stop()
  end)

  it("reads frames that come together with the request", function()
    serve(echo)
    local codec = core.codec(true, 100, 100)
    local sock <close> = assert(socket.connect("127.0.0.1", server.address[2]))
    sock:send(table.concat({ "GET / HTTP/1.1", "Host: a", "Upgrade: websocket",
                             "Connection: Upgrade", "Sec-WebSocket-Key: " .. KEY,
                             "Sec-WebSocket-Version: 13" }, "\r\n") .. "\r\n\r\n" ..
                codec:encode("text", "early"))
    repeat
      local line = sock:receive()
    until line == ""
    codec:feed(sock:recv())
    assert.same({ "text", "early" }, { codec:next() })
    sock:send(codec:control("close", 1000))
    codec:feed(sock:recv())
    assert.equal("close", (codec:next()))
    assert.is_nil(sock:recv())
    stop()
  end)

  it("is closed by a client that goes away at any byte of the request", function()
    serve(echo)
    local request = table.concat({ "GET / HTTP/1.1", "Host: a", "Upgrade: websocket",
                                   "Connection: Upgrade", "Sec-WebSocket-Key: " .. KEY,
                                   "Sec-WebSocket-Version: 13" }, "\r\n") .. "\r\n\r\n"
    for cut = 0, #request, 5 do
      local sock <close> = assert(socket.connect("127.0.0.1", server.address[2]))
      sock:send(request:sub(1, cut))
    end
    local ws = assert(websocket.connect(url))
    assert.is_true(ws:close())
    stop()
  end)

  it("serves many at once", function()
    serve(echo)
    local list = {}
    for i = 1, 100 do
      list[i] = assert(websocket.connect(url))
    end
    for i, ws in ipairs(list) do
      ws:send(tostring(i))
    end
    for i, ws in ipairs(list) do
      assert.equal(tostring(i), ws:receive())
      assert.is_true(ws:close())
    end
    stop()
  end)
end)
