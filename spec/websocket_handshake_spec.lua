-- How WebSockets are opened, at both ends.

local core = require "moonlet.wslay.core"
local frames = require "support.frames"
local moonlet = require "moonlet"
local socket = require "moonlet.socket"
local support = require "support"
local ends = require "support.websocket"
local websocket = require "moonlet.websocket"

describe("websocket.accept", function()
  local a, b

  before_each(function()
    a, b = socket.socketpair()
  end)

  after_each(function()
    a:close()
    b:close()
  end)

  local function accept(changes, opts, others)
    return websocket.accept(ends.request(a, changes, others), opts)
  end

  local function head()
    return assert(b:recv())
  end

  local function field(text, name)
    return text:match("\r\n" .. name:gsub("%-", "%%-") .. ": ([^\r]*)")
  end

  it("answers 101 and the digest of the key", function()
    assert(accept())
    local text = head()
    assert.truthy(text:find("^HTTP/1.1 101 [^\r]*\r\n"))
    assert.equal("websocket", field(text, "Upgrade"))
    assert.equal("Upgrade", field(text, "Connection"))
    assert.equal("s3pPLMBiTxaQ9kYGzzhZRbK+xOo=", field(text, "Sec-WebSocket-Accept"))
    assert.is_nil(field(text, "Sec-WebSocket-Protocol"))
    assert.is_nil(field(text, "Sec-WebSocket-Extensions"))
    assert.truthy(text:find("\r\n\r\n$"))
  end)

  it("takes tokens in any case, among others", function()
    assert(accept({ upgrade = "h2c, WebSocket", connection = "keep-alive, UPGRADE" }))
  end)

  it("takes HTTP/1.1 in either form", function()
    assert(accept(nil, nil, { version = "HTTP/1.1" }))
  end)

  local REFUSED = {
    { 405, "GET", nil, { method = "POST" } },
    { 400, "HTTP/1.1", nil, { version = "1.0" } },
    { 400, "HTTP/1.1", nil, { version = "HTTP/1.0" } },
    { 426, "upgrade", { upgrade = false } },
    { 426, "upgrade", { upgrade = "websockets" } },
    { 426, "upgrade", { connection = "keep-alive" } },
    { 426, "upgrade", { connection = false } },
    { 426, "version", { ["sec-websocket-version"] = false } },
    { 426, "version", { ["sec-websocket-version"] = "8" } },
    { 426, "version", { ["sec-websocket-version"] = "13, 13" } },
    { 400, "Key", { ["sec-websocket-key"] = false } },
    { 400, "Key", { ["sec-websocket-key"] = "dG9vIHNob3J0" } },
    { 400, "Key", { ["sec-websocket-key"] = "dGhlIHNhbXBsZSBub25jZQ==, " ..
                      "dGhlIHNhbXBsZSBub25jZQ==" } },
    { 400, "Protocol", { ["sec-websocket-protocol"] = "a, b c" } },
    { 400, "Protocol", { ["sec-websocket-protocol"] = "a, a" } },
    { 400, "Extensions", { ["sec-websocket-extensions"] = "permessage-deflate; =" } },
    { 400, "body", { ["content-length"] = "5" } },
    { 400, "body", { ["transfer-encoding"] = "chunked" } },
  }
  for i, case in ipairs(REFUSED) do
    it(("refuses what is no request for one: %d"):format(i), function()
      local ws, message, status, fields = accept(case[3], nil, case[4])
      assert.is_nil(ws)
      assert.equal(case[1], status)
      assert.truthy(message:find(case[2], 1, true), message)
      local names = {}
      for _, pair in ipairs(fields) do
        names[pair[1]] = pair[2]
      end
      assert.equal(status == 405 and "GET" or nil, names.Allow)
      assert.equal(status == 426 and "websocket" or nil, names.Upgrade)
      assert.equal(message:find("version of") and "13" or nil, names["Sec-WebSocket-Version"])
    end)
  end

  it("takes a length of 0", function()
    assert(accept({ ["content-length"] = "0" }))
  end)

  it("reads the frames that came with the request", function()
    local ws = accept(nil, nil, { leftover = frames.make("text", "early", { mask = "abcd" }) })
    assert.equal("early", ws:receive())
  end)

  it("takes the stream when it is needed", function()
    local request = ends.request(nil, nil, { take = function()
      return a, frames.make("text", "early", { mask = "abcd" })
    end })
    local ws = assert(websocket.accept(request))
    assert.truthy(head():find("^HTTP/1.1 101"))
    assert.equal("early", ws:receive())
  end)

  it("says so when the client is gone", function()
    b:close()
    local ws, message = accept()
    assert.is_nil(ws)
    assert.equal("closed", message)
  end)

  it("chooses the first protocol of the client's that it knows", function()
    local ws = accept({ ["sec-websocket-protocol"] = "x, b, a" }, { protocols = { "a", "b" } })
    assert.equal("b", ws.protocol)
    assert.equal("b", field(head(), "Sec-WebSocket-Protocol"))
    ws = accept({ ["sec-websocket-protocol"] = "x" }, { protocols = { "a" } })
    assert.is_nil(ws.protocol)
    assert.is_nil(field(head(), "Sec-WebSocket-Protocol"))
  end)

  it("has a function choose", function()
    local ws = accept({ ["sec-websocket-protocol"] = "x, y" }, { protocols = function(offered)
      assert.same({ "x", "y" }, offered)
      return "y"
    end })
    assert.equal("y", ws.protocol)
  end)

  it("adds header fields, but not those that would break the head", function()
    assert(accept(nil, { headers = { ["Set-Cookie"] = "a=b" } }))
    assert.equal("a=b", field(head(), "Set-Cookie"))
    assert(accept(nil, { headers = { { "X-One", 1 }, { "X-Two", "2" } } }))
    assert.truthy(head():find("X-One: 1\r\nX-Two: 2\r\n", 1, true))
    assert.has_error(function() accept(nil, { headers = { X = "a\r\nb: c" } }) end)
    assert.has_error(function() accept(nil, { headers = { ["X\n"] = "a" } }) end)
  end)

  describe("asks whence the page is:", function()
    local function from(origin, rule, host)
      local ws, message, status = accept({ origin = origin, host = host },
                                         { origin = rule })
      if ws then
        return true
      end
      assert.equal("origin not allowed", message)
      return status
    end

    it("who is no browser says nothing", function()
      assert.is_true(from(false))
      assert.is_true(from(false, "https://example.com"))
    end)

    it("from the same host, if nothing else is said", function()
      assert.is_true(from("http://example.com"))
      assert.is_true(from("https://EXAMPLE.com"))
      assert.is_true(from("http://example.com:8000", nil, "example.com:8000"))
      assert.is_true(from("https://example.com", nil, "example.com:443"))
      assert.equal(403, from("http://example.com:8000"))
      assert.equal(403, from("http://evil.com"))
      assert.equal(403, from("http://example.com.evil.com"))
      assert.equal(403, from("null"))
      assert.equal(403, from("http://example.com", nil, false))
    end)

    it("from where the option says", function()
      assert.is_true(from("http://a", "http://a"))
      assert.equal(403, from("http://example.com", "http://a"))
      assert.is_true(from("http://b", { "http://a", "http://b" }))
      assert.equal(403, from("http://c", { "http://a", "http://b" }))
      assert.is_true(from("http://anywhere", false))
      assert.is_true(from("http://ok.x", function(origin) return origin:find("ok") end))
      assert.equal(403, from("http://no.x", function(origin) return origin:find("ok") end))
    end)
  end)

  describe("agrees on compression:", function()
    local CASES = {
      { "permessage-deflate", true, "permessage-deflate" },
      { "permessage-deflate; client_max_window_bits", true, "permessage-deflate" },
      { "permessage-deflate; client_max_window_bits=10", true,
        "permessage-deflate; client_max_window_bits=10" },
      { "permessage-deflate; server_max_window_bits=10", true,
        "permessage-deflate; server_max_window_bits=10" },
      { "permessage-deflate; server_max_window_bits=15", true,
        "permessage-deflate; server_max_window_bits=15" },
      { 'permessage-deflate; server_max_window_bits="9"', true,
        "permessage-deflate; server_max_window_bits=9" },
      { "permessage-deflate; server_no_context_takeover; client_no_context_takeover", true,
        "permessage-deflate; server_no_context_takeover; client_no_context_takeover" },
      { "x-other; a=1, permessage-deflate", true, "permessage-deflate" },
      { "permessage-deflate; server_max_window_bits=7, permessage-deflate", true,
        "permessage-deflate" },
      { "permessage-deflate; client_max_window_bits", { window_bits = 11 },
        "permessage-deflate; server_max_window_bits=11; client_max_window_bits=11" },
      { "permessage-deflate", { window_bits = 11 },
        "permessage-deflate; server_max_window_bits=11" },
      { "permessage-deflate", { context_takeover = false },
        "permessage-deflate; server_no_context_takeover; client_no_context_takeover" },
      { "permessage-deflate", false, nil },
      { "permessage-deflate", nil, nil },
      { false, true, nil },
      { "permessage-deflate; unknown", true, nil },
      { "permessage-deflate; server_max_window_bits", true, nil },
      { "permessage-deflate; server_max_window_bits=16", true, nil },
      { "permessage-deflate; server_max_window_bits=010", true, nil },
      { "permessage-deflate; client_max_window_bits=x", true, nil },
      { "permessage-deflate; server_no_context_takeover=1", true, nil },
      { "permessage-deflate; client_max_window_bits; client_max_window_bits", true, nil },
    }
    for _, case in ipairs(CASES) do
      it(("%s, %s"):format(case[1], type(case[2])), function()
        assert(accept({ ["sec-websocket-extensions"] = case[1] }, { compress = case[2] }))
        assert.equal(case[3], field(head(), "Sec-WebSocket-Extensions"))
      end)
    end
  end)

  it("refuses options that do not exist, or make no sense", function()
    for option, value in pairs { compres = true, max_message = 0, max_frame = 1.5, max_queue = "1",
                                 send_timeout = -1, ping_interval = "1", headers = "X: y",
                                 protocols = "chat", compress = 1, timeout = 1 } do
      local err = support.error_of(accept, nil, { [option] = value })
      assert.truthy(err:find("bad argument #2 to 'accept'", 1, true), err)
      assert.truthy(err:find(option, 1, true), err)
    end
    for option, value in pairs { level = 10, window_bits = 8, memory = 0, threshold = -1,
                                 context_takeover = 1, windowbits = 9 } do
      local err = support.error_of(accept, nil, { compress = { [option] = value } })
      assert.truthy(err:find("compress." .. option, 1, true), err)
    end
    assert.has_error(function() websocket.accept() end,
                     "bad argument #1 to 'accept' (table expected, got no value)")
  end)
end)

describe("websocket.upgrade", function()
  local a, b, ws

  before_each(function()
    a, b = socket.socketpair()
    ws = assert(websocket.upgrade(ends.request(a, { origin = "http://evil.com" }),
                                  { origin = false }))
  end)

  after_each(function()
    a:close()
    b:close()
  end)

  it("answers nothing until the WebSocket is used", function()
    assert.equal("connecting", ws.state)
    assert.equal("<WebSocket: server, connecting>", tostring(ws))
    b:settimeout(0)
    assert.same({ nil, "timeout" }, { b:recv() })
    b:settimeout(nil)
    assert.is_true(ws:send("hello"))
    local text = b:recv()
    assert.truthy(text:find("^HTTP/1.1 101"))
    local frame = text:match("\r\n\r\n(.*)")
    assert.equal("hello", frames.parse(frame ~= "" and frame or b:recv()).payload)
  end)

  it("answers when something is to be received, too", function()
    assert.same({ nil, "timeout" }, { ws:receive(0) })
    assert.equal("open", ws.state)
    assert.truthy(b:recv():find("^HTTP/1.1 101"))
  end)

  it("takes more options when it is accepted", function()
    assert.equal(ws, ws:accept { headers = { X = "y" } })
    assert.truthy(b:recv():find("X: y", 1, true))
    local err = support.error_of(ws.accept, ws)
    assert.truthy(err:find("accepted already", 1, true))
  end)

  it("may refuse the origin then", function()
    local ok, message, status = ws:accept { origin = "http://good.com" }
    assert.same({ nil, "origin not allowed", 403 }, { ok, message, status })
    assert.same({ nil, "closed", 1006, "origin not allowed" }, { ws:send("x") })
    assert.same({ nil, "closed", 1006, "origin not allowed" }, { ws:receive() })
    assert.equal("closed", ws.state)
  end)

  it("touches nothing if it is closed before", function()
    assert.is_true(ws:close())
    assert.equal(1, a:send("x"))
    assert.equal("x", b:recv())
    assert.same({ nil, "closed", 1000, "" }, { ws:receive() })
  end)

  it("answers when it is closed with a code, which the peer is told", function()
    local closer = moonlet.spawn(ws.close, ws, 4001, "no ticket")
    local text = ""
    repeat
      text = text .. assert(b:recv())
    until text:find("\r\n\r\n.")
    assert.truthy(text:find("^HTTP/1.1 101"))
    local frame = frames.parse(text:match("\r\n\r\n(.*)"))
    assert.equal(("\x0f\xa1no ticket"), frame.payload)
    b:close()
    closer:join()
    assert.equal("closed", ws.state)
  end)

  it("refuses at once what is no request for a WebSocket", function()
    local none, _, status = websocket.upgrade(ends.request(a, { upgrade = false }))
    assert.is_nil(none)
    assert.equal(426, status)
  end)
end)

describe("websocket.connect", function()
  local a, b

  before_each(function()
    a, b = socket.socketpair()
  end)

  after_each(function()
    a:close()
    b:close()
  end)

  local function read_head()
    local head = ""
    while not head:find("\r\n\r\n", 1, true) do
      head = head .. assert(b:recv())
    end
    return head
  end

  -- What connect returns when the server's answer is made by answer(head).
  local function connect(answer, opts, url)
    local head
    local g = moonlet.spawn(function()
      head = read_head()
      b:send(answer(head))
    end)
    local all = { stream = a }
    for name, value in pairs(opts or {}) do
      all[name] = value
    end
    local results = table.pack(websocket.connect(url or "ws://example.com/", all))
    g:join()
    return results, head
  end

  local function right_lines(head)
    local key = head:match("Sec%-WebSocket%-Key: (%S+)\r\n")
    return { "HTTP/1.1 101 Switching Protocols", "Upgrade: websocket", "Connection: Upgrade",
             "Sec-WebSocket-Accept: " .. core.accept(key) }
  end

  local function right(head)
    return table.concat(right_lines(head), "\r\n") .. "\r\n\r\n"
  end

  -- The right answer with another line.
  local function with(line, place)
    return function(head)
      local lines = right_lines(head)
      lines[place or #lines + 1] = line
      return table.concat(lines, "\r\n") .. "\r\n\r\n"
    end
  end

  it("asks as RFC 6455 wants it", function()
    local results, head = connect(right, { origin = "http://page", protocols = { "a", "b" },
                                           headers = { Cookie = "c=d" } },
                                  "ws://Example.com:8080/path?query")
    assert.equal("open", results[1].state)
    assert.equal("<WebSocket: client of ws://Example.com:8080/path?query, open>",
                 tostring(results[1]))
    local fields = {}
    for name, value in head:gmatch("\r\n([^:\r\n]+): ([^\r]*)") do
      assert.is_nil(fields[name])
      fields[name] = value
    end
    assert.truthy(head:find("^GET /path%?query HTTP/1.1\r\n"))
    assert.is_true(core.is_key(fields["Sec-WebSocket-Key"]))
    fields["Sec-WebSocket-Key"] = nil
    assert.same({ Host = "Example.com:8080", Upgrade = "websocket", Connection = "Upgrade",
                  ["Sec-WebSocket-Version"] = "13", ["Sec-WebSocket-Protocol"] = "a, b",
                  Origin = "http://page", Cookie = "c=d" }, fields)
  end)

  it("asks for / where the URL has no path", function()
    for url, target in pairs { ["ws://h"] = "/", ["ws://h?q"] = "/?q", ["ws://h:80"] = "/",
                               ["WS://h/x"] = "/x", ["ws://[::1]:81/"] = "/" } do
      local _, head = connect(right, nil, url)
      assert.truthy(head:find("GET " .. target .. " HTTP", 1, true), url)
    end
  end)

  it("asks with another Host, if told to", function()
    local _, head = connect(right, { headers = { Host = "virtual" } })
    assert.truthy(head:find("Host: virtual", 1, true))
    assert.is_nil(head:find("example.com", 1, true))
  end)

  it("tells what was agreed on", function()
    local ws = connect(with("Sec-WebSocket-Protocol: b"), { protocols = { "a", "b" } })[1]
    assert.equal("b", ws.protocol)
    assert.equal("websocket", ws.headers.upgrade)
  end)

  it("reads the frames that come with the answer", function()
    local ws = connect(function(head)
      return right(head) .. frames.make("text", "early")
    end)[1]
    assert.equal("early", ws:receive())
  end)

  it("skips answers that come before the right one", function()
    assert(connect(function(head)
      return "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" .. right(head)
    end)[1])
  end)

  it("takes names and tokens in any case", function()
    assert(connect(with("upgrade: WebSocket", 2))[1])
    assert(connect(with("CONNECTION: keep-alive, upgrade", 3))[1])
  end)

  local WRONG = {
    { "HTTP/1.1 200 OK", 1, "the server answered 200 OK", 200 },
    { "HTTP/1.1 404 Not Found", 1, "the server answered 404 Not Found", 404 },
    { "HTTP/1.1 301 Moved\r\nLocation: /x", 1, "the server answered 301 Moved", 301 },
    { "Upgrade: h2c", 2, "the server switched to something else", 101 },
    { "X: y", 3, "the server switched to something else", 101 },
    { "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=", 4, "wrong Sec-WebSocket-Accept", 101 },
    { "X: y", 4, "wrong Sec-WebSocket-Accept", 101 },
    { "Sec-WebSocket-Protocol: other", 5, "the server chose a protocol that was not offered: other",
      101 },
    { "Sec-WebSocket-Extensions: permessage-deflate", 5,
      "the server answers with extensions that were not offered: permessage-deflate", 101 },
    { "Sec-WebSocket-Extensions: =", 5, "malformed Sec-WebSocket-Extensions", 101 },
  }
  for _, case in ipairs(WRONG) do
    it("refuses the answer: " .. case[1], function()
      local results = connect(with(case[1], case[2]))
      assert.same({ n = 3, nil, case[3], case[4] }, results)
      assert.is_nil(b:recv())
    end)
  end

  describe("agrees on compression:", function()
    local DEFLATE = "permessage-deflate"
    local CASES = {
      { true, DEFLATE .. "; client_max_window_bits", DEFLATE, true },
      { true, nil, DEFLATE .. "; client_max_window_bits=8", true },
      { true, nil, DEFLATE .. "; server_max_window_bits=10; server_no_context_takeover", true },
      { true, nil, DEFLATE .. "; client_no_context_takeover", true },
      { { window_bits = 12 },
        DEFLATE .. "; server_max_window_bits=12; client_max_window_bits=12",
        DEFLATE .. "; server_max_window_bits=12; client_max_window_bits=9", true },
      { { context_takeover = false }, DEFLATE .. "; server_no_context_takeover; " ..
        "client_no_context_takeover; client_max_window_bits",
        DEFLATE .. "; server_no_context_takeover", true },
      { { window_bits = 12 }, nil, DEFLATE .. "; client_max_window_bits=13", false },
      { { window_bits = 12 }, nil, DEFLATE .. "; server_max_window_bits=13", false },
      { true, nil, DEFLATE .. "; client_max_window_bits", false },
      { true, nil, DEFLATE .. "; server_max_window_bits=7", false },
      { true, nil, DEFLATE .. "; unknown", false },
      { true, nil, DEFLATE .. ", " .. DEFLATE, false },
      { true, nil, "x-other", false },
    }
    for _, case in ipairs(CASES) do
      it(case[3] .. " for " .. (case[2] or "an offer"), function()
        local results, head = connect(with("Sec-WebSocket-Extensions: " .. case[3]),
                                      { compress = case[1] })
        if case[2] then
          assert.equal(case[2], head:match("Sec%-WebSocket%-Extensions: ([^\r]*)"))
        end
        assert.equal(case[4], results[1] ~= nil, results[2])
        if case[4] then
          results[1]:send(("word "):rep(1000))
          local rsv = b:recv():byte() >> 4 & 7
          assert.equal(case[3]:find("=8", 1, true) and 0 or 4, rsv)
        end
      end)
    end

    it("none, if the server does not answer the offer", function()
      local ws = connect(right, { compress = true })[1]
      ws:send(("word "):rep(1000))
      assert.equal(0, b:recv():byte() >> 4 & 7)
    end)
  end)

  it("says what is wrong with what is no HTTP", function()
    local results = connect(function()
      return "SSH-2.0-OpenSSH\r\n"
    end)
    assert.is_nil(results[1])
    assert.truthy(results[2]:find("^no HTTP: "), results[2])
  end)

  it("gives up a head without an end", function()
    local results = connect(function()
      return "HTTP/1.1 101 Yes\r\n" .. ("X: " .. ("y"):rep(1000) .. "\r\n"):rep(100)
    end)
    assert.is_nil(results[1])
  end)

  it("says so when the server hangs up at any byte", function()
    local answer = right("Sec-WebSocket-Key: x\r\n")
    for cut = 0, #answer - 1 do
      a, b = socket.socketpair()
      local g = moonlet.spawn(function()
        read_head()
        b:send(answer:sub(1, cut))
        b:close()
      end)
      local ws, message = websocket.connect("ws://example.com/", { stream = a })
      assert.is_nil(ws)
      assert.equal("closed before the server answered", message)
      g:join()
    end
  end)

  it("bounds its time", function()
    assert.same({ nil, "timeout" },
                { websocket.connect("ws://example.com/", { stream = a, timeout = 0.01 }) })
    assert.truthy(read_head())
    assert.is_nil(b:recv())
  end)

  it("takes a Timeout that is started", function()
    local limit <close> = moonlet.Timeout.start_new(0.01)
    local ok, err = pcall(websocket.connect, "ws://example.com/", { stream = a, timeout = limit })
    assert.is_false(ok)
    assert.equal(limit, err)
  end)

  it("closes the connection when it is killed", function()
    local g = moonlet.spawn(websocket.connect, "ws://example.com/", { stream = a })
    read_head()
    moonlet.kill(g)
    g:join()
    assert.is_nil(b:recv())
  end)

  it("connects by itself", function()
    local port, stop = ends.serve(ends.echo)
    local ws = assert(websocket.connect(("ws://127.0.0.1:%d/"):format(port)))
    ws:send("echo")
    assert.equal("echo", ws:receive())
    assert.is_true(ws:close())
    stop()
    local none, message = websocket.connect(("ws://127.0.0.1:%d/"):format(port))
    assert.is_nil(none)
    assert.equal("connection refused", message)
  end)

  it("is told why a server refuses", function()
    local port, stop = ends.serve(ends.echo)
    assert.same({ nil, "the server answered 403 origin not allowed", 403 },
                { websocket.connect(("ws://127.0.0.1:%d/"):format(port),
                                    { origin = "http://evil.com" }) })
    stop()
  end)

  it("refuses what is no URL of a WebSocket", function()
    for _, url in ipairs { "", "example.com", "http://example.com/", "ws:///x", "ws://h:x/",
                           "ws://h:99999/", "ws://h/#f", "ws://u:p@h/", "ws://h/a b",
                           "ws://h/\r\nX: y", "ws://h/ä", "ws://a:b:c/", "ws://[::1/" } do
      local err = support.error_of(websocket.connect, url)
      assert.truthy(err:find("bad argument #1 to 'connect'", 1, true), err)
    end
    assert.has_error(function() websocket.connect() end,
                     "bad argument #1 to 'connect' (string expected, got no value)")
  end)

  it("refuses options that make no sense", function()
    local wrong = {
      { headers = { X = "a\nb" } }, { headers = { Upgrade = "x" } },
      { headers = { ["Sec-WebSocket-Key"] = "x" } }, { protocols = { "a b" } },
      { protocols = { 1 } }, { protocols = "a" }, { origin = "a\r\n" }, { origin = {} },
      { unknown = 1 },
    }
    for _, opts in ipairs(wrong) do
      opts.stream = a
      local err = support.error_of(websocket.connect, "ws://h/", opts)
      assert.truthy(err:find("bad argument #2 to 'connect'", 1, true), err)
    end
  end)
end)
