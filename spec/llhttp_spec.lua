local llhttp = require "moonlet.llhttp"
local support = require "support"

local HOST = "Host: here\r\n"
local CHUNKED = "POST / HTTP/1.1\r\n" .. HOST .. "Transfer-Encoding: chunked\r\n\r\n"

-- Reads a text in pieces of so many bytes (default: in one). Returns the events, bodies joined as
-- "body:TEXT" and an error as "error:CODE", and the parser; `look` is called with it behind each
-- head.
local function read(text, size, parser, look)
  parser = type(parser) == "table" and parser[1] or llhttp.new(parser or "request")
  size = size or #text
  local events = {}
  local function add(event, payload)
    local last = events[#events]
    if event == "body" and last and last:match("^body:") then
      events[#events] = last .. payload
    else
      events[#events + 1] = payload and event .. ":" .. payload or event
    end
  end
  for first = 1, #text, size do
    local piece, from = text:sub(first, first + size - 1), 1
    repeat
      local event, next, payload = parser:execute(piece, from)
      if not event then
        add("error", payload)
        return table.concat(events, " "), parser
      elseif event ~= "more" then
        add(event, payload)
        if event == "headers" and look then
          look(parser)
        end
      end
      from = next
    until event == "more"
  end
  return table.concat(events, " "), parser
end

-- In one piece and byte by byte.
local function check(expected, text, kind)
  assert.equal(expected, (read(text, nil, kind)))
  assert.equal(expected, (read(text, 1, kind)))
end

-- A request with these fields besides Host.
local function request(...)
  return table.concat({ "GET / HTTP/1.1", "Host: here", ... }, "\r\n") .. "\r\n\r\n"
end

describe("moonlet.llhttp", function()
  describe("new", function()
    it("checks its arguments", function()
      assert.error_matches(function() llhttp.new("both") end, "bad argument #1 to 'new'")
      assert.error_matches(function() llhttp.new("request", 1) end, "bad argument #2 to 'new'")
      for _, name in ipairs { "line", "header_bytes", "header_count", "extension_bytes" } do
        assert.error_matches(function() llhttp.new("request", { [name] = 0 }) end, name)
        assert.error_matches(function() llhttp.new("request", { [name] = "much" }) end, name)
      end
    end)

    it("gives a parser that says what it is and where it stands", function()
      local parser = llhttp.new("response")
      assert.matches("^Parser: .*of responses, between messages", tostring(parser))
      parser:execute("HTTP/1.1 2")
      assert.matches("in a head", tostring(parser))
      parser:execute("x")
      assert.matches("dead", tostring(parser))
    end)
  end)

  describe("a request", function()
    it("is told of when its head is complete, and when it ends", function()
      check("headers end", request())
    end)

    it("has a method, a target, a version, and fields in their order", function()
      for _, size in ipairs { 1000, 1, 3 } do
        local text = "PUT /a%20b?c=d HTTP/1.1\r\nHost: here\r\nA: 1 \t\r\nCookie: x=1\r\na:2\r\n" ..
          "Cookie:  y=2\r\nEmpty:\r\n\r\n"
        local _, parser = read(text, size)
        assert.equal("PUT", parser:method())
        assert.equal("/a%20b?c=d", parser:target())
        assert.equal("1.1", parser:version())
        assert.equal("PUT /a%20b?c=d HTTP/1.1", parser:line())
        assert.same({ "Host", "here", "A", "1", "Cookie", "x=1", "a", "2", "Cookie", "y=2",
                      "Empty", "", host = "here", a = "1, 2", cookie = "x=1; y=2", empty = "" },
                    parser:headers())
      end
    end)

    it("keeps long names and values whole", function()
      local name, value = ("Name"):rep(100), ("value "):rep(1000) .. "."
      local _, parser = read(request(name .. ": " .. value), 100)
      assert.equal(value, parser:headers()[name:lower()])
    end)

    it("may have any word as method", function()
      for _, method in ipairs { "GET", "get", "FROB", "PRI", "M-SEARCH", "PLAY", "X" } do
        local text = method .. " / HTTP/1.1\r\n" .. HOST .. "\r\n"
        for _, size in ipairs { 1000, 1 } do
          local events, parser = read(text, size)
          assert.equal("headers end", events)
          assert.equal(method, parser:method())
        end
      end
      check("error:request", ("A"):rep(33) .. " / HTTP/1.1\r\n" .. HOST .. "\r\n")
    end)

    it("may have any form of target", function()
      for _, target in ipairs { "/", "*", "http://there/x?y", "/a//b/../c", "/?a?b=|" } do
        local _, parser = read("OPTIONS " .. target .. " HTTP/1.1\r\n" .. HOST .. "\r\n")
        assert.equal(target, parser:target())
      end
      local _, parser = read("CONNECT there:443 HTTP/1.1\r\n" .. HOST .. "\r\n")
      assert.equal("there:443", parser:target())
      assert.is_true(parser:upgrade())
      assert.is_false(parser:keepalive())
    end)

    it("of HTTP/0.9 is one line and the last one", function()
      local events, parser = read("GET /path\r\n")
      assert.equal("headers end", events)
      assert.same({ "0.9", "/path", false }, { parser:version(), parser:target(),
                                               parser:keepalive() })
      assert.same({}, parser:headers())
      check("headers end error:closed", "GET /path\r\n" .. HOST .. "\r\n")
      check("error:request", "POST /path\r\n")
    end)

    it("says whether others may follow", function()
      local function keepalive(version, ...)
        local fields = table.concat({ "Host: here", ... }, "\r\n")
        local _, parser = read("GET / HTTP/" .. version .. "\r\n" .. fields .. "\r\n\r\n")
        return parser:keepalive()
      end
      assert.is_true(keepalive("1.1"))
      assert.is_false(keepalive("1.1", "Connection: close"))
      assert.is_false(keepalive("1.1", "Connection: Te, CLOSE"))
      assert.is_false(keepalive("1.1", "connection: te", "Connection: keep-alive, close"))
      assert.is_false(keepalive("1.0"))
      assert.is_true(keepalive("1.0", "Connection: Keep-Alive"))
      assert.is_false(keepalive("1.0", "Connection: keep-alive, close"))
    end)

    it("that was the last one may be followed by nothing", function()
      check("headers end error:closed", request("Connection: close") .. "x")
    end)

    it("may ask for another protocol, and be followed by others if it is not heard", function()
      local text = request("Connection: upgrade", "Upgrade: websocket")
      local _, parser = read(text)
      assert.is_true(parser:upgrade())
      check("headers end headers end", text .. request())
      _, parser = read(request("Upgrade: websocket"))
      assert.is_false(parser:upgrade())
    end)
  end)

  describe("a body", function()
    it("has the length that Content-Length says", function()
      check("headers body:abc end headers end",
            "POST / HTTP/1.1\r\n" .. HOST .. "Content-Length: 3\r\n\r\nabc" .. request())
      local _, parser = read("POST / HTTP/1.1\r\n" .. HOST .. "Content-Length: 3\r\n\r\n")
      assert.same({ 3, false }, { parser:length(), parser:chunked() })
      check("headers end", "POST / HTTP/1.1\r\n" .. HOST .. "Content-Length: 0\r\n\r\n")
    end)

    it("may come in chunks, with extensions and trailers", function()
      local text = CHUNKED .. "3\r\nabc\r\nA;x=1\r\n0123456789\r\n1;y=\"a b\"\r\nz\r\n0;z\r\n" ..
        "Sum:  9\r\nsum: 8\r\n\r\n"
      check("headers body:abc0123456789z end", text)
      for _, size in ipairs { 1000, 1, 7 } do
        local _, parser = read(text, size)
        assert.is_true(parser:chunked())
        assert.is_nil(parser:length())
        assert.same({ "Sum", "9", "sum", "8", sum = "9, 8" }, parser:trailers())
        assert.same({ "Host", "here", "Transfer-Encoding", "chunked", host = "here",
                      ["transfer-encoding"] = "chunked" }, parser:headers())
      end
    end)

    it("comes in one piece for each call", function()
      local parser = llhttp.new("request")
      local text = CHUNKED .. "3\r\nabc\r\n3\r\ndef\r\n0\r\n\r\n" .. request()
      local event, next = parser:execute(text)
      assert.equal("headers", event)
      local piece
      event, next, piece = parser:execute(text, next)
      assert.same({ "body", "abcdef" }, { event, piece })
      event, next = parser:execute(text, next)
      assert.equal("end", event)
      assert.equal(request(), text:sub(next))
    end)

    it("of any bytes and any size passes through", function()
      local body = {}
      for i = 1, 100000 do
        body[i] = string.char(i * i % 256)
      end
      body = table.concat(body)
      local head = "POST / HTTP/1.1\r\n" .. HOST .. "Content-Length: " .. #body .. "\r\n\r\n"
      assert.equal("headers body:" .. body .. " end", (read(head .. body, 4099)))
      local chunks = ("%x\r\n%s\r\n0\r\n\r\n"):format(#body, body)
      assert.equal("headers body:" .. body .. " end", (read(CHUNKED .. chunks, 4099)))
    end)

    it("that is unfinished is an error at the end of the connection", function()
      for _, text in ipairs { "GE", "GET / HT", CHUNKED, CHUNKED .. "3\r\na",
                              CHUNKED .. "0\r\n" } do
        local _, parser = read(text)
        assert.equal("eof", (select(3, parser:finish())))
        assert.equal("eof", (select(3, parser:execute("x"))))
      end
      local _, parser = read(request())
      assert.equal("idle", parser:finish())
    end)
  end)

  describe("a response", function()
    it("has a status and a reason", function()
      local events, parser = read("HTTP/1.1 404 Not  Found\r\nContent-Length: 0\r\n\r\n", 1,
                                  "response")
      assert.equal("headers end", events)
      assert.same({ 404, "Not  Found", "1.1" }, { parser:status(), parser:reason(),
                                                 parser:version() })
      for _, line in ipairs { "HTTP/1.0 200", "HTTP/1.0 200 " } do
        _, parser = read(line .. "\r\n\r\n", nil, "response")
        assert.same({ 200, "" }, { parser:status(), parser:reason() })
      end
    end)

    it("without a length goes up to the end of the connection", function()
      local events, parser = read("HTTP/1.1 200 OK\r\n\r\nabc", nil, "response")
      assert.equal("headers body:abc", events)
      assert.is_false(parser:keepalive())
      assert.equal("end", parser:finish())
    end)

    it("of 1xx, 204 and 304 has no body, and so has one to HEAD", function()
      for _, status in ipairs { 100, 103, 204, 304 } do
        local head = ("HTTP/1.1 %d X\r\nContent-Length: 5\r\n\r\n"):format(status)
        check("headers end headers end", head:rep(2), "response")
      end
      local text = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"
      local parser = llhttp.new("response")
      parser:skip_body()
      assert.equal("headers end headers", (read(text:rep(2), nil, { parser })))
      parser = llhttp.new("response")
      local _, next = parser:execute(text .. text)
      parser:skip_body()
      assert.equal("end", (parser:execute(text .. text, next)))
      assert.is_true(parser:keepalive())
      assert.equal(5, parser:length())
    end)

    it("to HEAD may be preceded by others", function()
      local parser = llhttp.new("response")
      parser:skip_body()
      local text = "HTTP/1.1 100 Continue\r\n\r\n" ..
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
      assert.equal("headers end headers end", (read(text, nil, { parser })))
    end)

    it("of 101 ends what the parser reads", function()
      check("headers end error:closed",
            "HTTP/1.1 101 X\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\nraw", "response")
    end)

    it("is an error where its first line is not as it must be", function()
      for _, line in ipairs { "HTTP/1.1 20 OK", "HTTP/1.1 2000 OK", "HTTP/1.1 099 OK",
                              "HTTP/1.1  200 OK", "HTTP/1.1 200\tOK", "HTTP/1.1 200 O\0K",
                              "ICY 200 OK", "HTTP/1.1 200 O\rK" } do
        local events = read(line .. "\r\n\r\n", nil, "response")
        assert.matches("^error:", events)
      end
      check("error:version", "HTTP/2.0 200 OK\r\n\r\n", "response")
    end)
  end)

  describe("is strict:", function()
    local function refuses(code, ...)
      for _, text in ipairs { ... } do
        for _, size in ipairs { #text, 1 } do
          local events, parser = read(text, size)
          local expected = code and "error:" .. code or "error:"
          local found = events:match("error:.*") or events
          assert.equal(expected, code and found or found:sub(1, 6), ("%q"):format(text))
          assert.is_nil((parser:execute("more")))
        end
      end
    end

    local function field(line)
      return "POST / HTTP/1.1\r\n" .. HOST .. line .. "\r\n\r\nabc"
    end

    it("the first line has three words with one space between", function()
      refuses("request", "GET\r\n\r\n", "\r\n" .. request(), "\n" .. request(), " " .. request(),
              "GET  / HTTP/1.1\r\n", "GET /  HTTP/1.1\r\n", "GET\t/ HTTP/1.1\r\n",
              "GET / http/1.1\r\n", "GET /#a HTTP/1.1\r\n" .. HOST .. "\r\n",
              "GET a HTTP/1.1\r\n", "GET / RTSP/1.0\r\n", "\22\3\1\2\0\1\0\1",
              "G\0T / HTTP/1.1\r\n")
      refuses(nil, "GET /a b HTTP/1.1\r\n", "GET / HTTP/1.1 \r\n", "GET / HTTP/1.1 x\r\n",
              "GET / HTTP/11\r\n", "GET /\r HTTP/1.1\r\n", "GET /\255 HTTP/1.1\r\n",
              "GET /a\tb HTTP/1.1\r\n",
              "GET /a\0b HTTP/1.1\r\n")
      refuses("version", "GET / HTTP/2.0\r\n" .. HOST .. "\r\n",
              "GET / HTTP/0.9\r\n\r\n", "GET / HTTP/1.2\r\n")
    end)

    it("the target is a path, or a URL with a host that may be one", function()
      for _, target in ipairs { "here", "h", "http:", "http:/", "http:/x", "http:x", "http://",
                                "http:///x", "http://?x", "http://a@b/", "http://a,b/", "?x" } do
        refuses(nil, "GET " .. target .. "\r\n", "GET " .. target .. "\r\n\r\n",
                "GET " .. target .. " HTTP/1.1\r\n" .. HOST .. "\r\n")
        for cut = 1, #target:match("^[^/@,]*") do -- llhttp takes a word that ends with its bytes
          local parser = llhttp.new("request")
          parser:execute("GET " .. target:sub(1, cut))
          assert.is_nil((parser:execute("\r\n\r\n" .. target:sub(cut + 1))))
        end
      end
    end)

    it("lines end in CR LF", function()
      refuses("header", "GET / HTTP/1.1\n" .. HOST .. "\r\n", "GET / HTTP/1.1\r\nHost: x\n\r\n",
              "GET / HTTP/1.1\r\nHost: x\r\n\n", field("A: a\rb"), field("A:\rb"),
              field("A: b\r"), field("A:\n b"))
    end)

    it("fields have a name, no space before the colon, and one line", function()
      refuses("header", field("A : 1"), field("A\t: 1"), field(" A: 1"), field("\tA: 1"),
              field("A: 1\r\n b"), field("A:\r\n b"), field(": 1"), field("A"), field("(A): 1"),
              field("A: a\0b"), field("A: a\1b"), field("A: a\127b"), field("A\0: b"),
              field("Content-Length : 3"), field("A: 1\r\n Content-Length: 3"))
    end)

    it("one Host in 1.1, and never two", function()
      refuses("host", "GET / HTTP/1.1\r\n\r\n", "GET / HTTP/1.1\r\n" .. HOST .. HOST .. "\r\n",
              "GET / HTTP/1.0\r\n" .. HOST .. HOST .. "\r\n", "GET / HTTP/1.1\r\nHost: a b\r\n\r\n",
              "GET / HTTP/1.1\r\nHost: a,b\r\n\r\n", "GET / HTTP/1.1\r\nHost: a/b\r\n\r\n",
              "GET / HTTP/1.1\r\nHost: a@b\r\n\r\n")
      check("headers end", "GET / HTTP/1.0\r\n\r\n")
      check("headers end", "GET / HTTP/1.1\r\nHost:\r\n\r\n")
      check("headers end", "GET / HTTP/1.1\r\nHost: [::1]:80\r\n\r\n")
    end)

    it("one Content-Length of digits", function()
      for _, value in ipairs { "+3", "-3", "1_0", "", "3,3", "3, 3", "0x3", "3 3", "a", "3;",
                               "99999999999999999999", "9223372036854775808" } do
        refuses("length", field("Content-Length: " .. value))
      end
      refuses("length", field("Content-Length: 3\r\nContent-Length: 3"),
              field("Content-Length: 3\r\nContent-Length: 4"))
    end)

    it("chunked is the only transfer coding, given once, in 1.1, without a length", function()
      for _, value in ipairs { "gzip, chunked", "identity", "", "xchunked", "chunkedx",
                               "chunked, chunked", "chunked,", "\"chunked\"", "chunked;q=1" } do
        refuses("coding", field("Transfer-Encoding: " .. value))
      end
      refuses("coding", field("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked"),
              field("Transfer-Encoding: chunked\r\nTransfer-Encoding: identity"))
      refuses("length", field("Content-Length: 3\r\nTransfer-Encoding: chunked"),
              field("Transfer-Encoding: chunked\r\nContent-Length: 3"),
              "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n")
      check("headers", field("transfer-encoding:  CHUNKED "):sub(1, -4))
    end)

    it("chunks are as they must be", function()
      refuses("chunk", CHUNKED .. "\r\n", CHUNKED .. "3\nabc\r\n", CHUNKED .. "3 \r\nabc\r\n",
              CHUNKED .. " 3\r\nabc\r\n", CHUNKED .. "0x3\r\nabc\r\n", CHUNKED .. "-3\r\nabc\r\n",
              CHUNKED .. "+3\r\nabc\r\n", CHUNKED .. "3\r\nabcd\r\n", CHUNKED .. "3\r\nabc\n",
              CHUNKED .. "3\r\nabc0\r\n", CHUNKED .. "g\r\n", CHUNKED .. "3;\r\nabc\r\n",
              CHUNKED .. "3;a\nb\r\n", CHUNKED .. ("f"):rep(17) .. "\r\n",
              CHUNKED .. ("0"):rep(8192), CHUNKED .. "3;" .. ("a"):rep(8192))
    end)

    it("trailers are fields, and none that says where messages end", function()
      refuses("chunk", CHUNKED .. "0\r\nGET / HTTP/1.1\r\n\r\n", CHUNKED .. "0\r\nA : b\r\n\r\n",
              CHUNKED .. "0\r\nA: \0\r\n\r\n")
      refuses(nil, CHUNKED .. "0\r\nA: b\n\r\n", CHUNKED .. "0\r\nA: b\r\n c\r\n\r\n",
              CHUNKED .. "0\r\n\n", CHUNKED .. "0\r\nContent-Length: 3\r\n\r\n",
              CHUNKED .. "0\r\nTransfer-Encoding: chunked\r\n\r\n",
              CHUNKED .. "0\r\nHost: there\r\n\r\n", CHUNKED .. "0\r\nConnection: close\r\n\r\n")
    end)
  end)

  describe("limits", function()
    local function refused(code, limits, text, size)
      local events = read(text, size, { llhttp.new("request", limits) })
      assert.equal("error:" .. code, events:match("error:.*") or events)
    end

    it("the first line: so many bytes with its end are too many", function()
      for _, size in ipairs { 10000, 1 } do
        local function line(length)
          return "GET /" .. ("a"):rep(length - 16) .. " HTTP/1.1\r\n"
        end
        refused("line", nil, line(8192), size)
        refused("line", nil, "GET /" .. ("a"):rep(9000), size)
        assert.equal("headers end", (read(line(8191) .. HOST .. "\r\n", size)))
        refused("line", { line = 100 }, line(100), size)
      end
    end)

    it("other lines, their number, and all of them together", function()
      for _, size in ipairs { 100000, 1 } do
        refused("headers", nil, request("A: " .. ("a"):rep(8192)), size)
        refused("headers", { header_count = 3 }, request("A: 1", "B: 2", "C: 3"), size)
        refused("headers", { header_bytes = 100 }, request("A: " .. ("a"):rep(70)), size)
        assert.equal("headers end", (read(request("A: 1", "B: 2"), size,
                                          { llhttp.new("request", { header_count = 3 }) })))
      end
      refused("headers", nil, request() :sub(1, -3) .. ("A: b\r\n"):rep(100) .. "\r\n")
      refused("headers", nil, request():sub(1, -3) .. ("A: " .. ("b"):rep(8000) .. "\r\n"):rep(9))
    end)

    it("trailers and chunk extensions", function()
      refused("headers", nil, CHUNKED .. "0\r\n" .. ("A: b\r\n"):rep(100))
      refused("headers", nil, CHUNKED .. "0\r\n" .. ("A: " .. ("b"):rep(8000) .. "\r\n"):rep(9))
      refused("extensions", nil, CHUNKED .. ("1;" .. ("a"):rep(4000) .. "\r\nx\r\n"):rep(5))
      refused("extensions", { extension_bytes = 5 }, CHUNKED .. "1;abc=def\r\n", 1)
    end)
  end)

  it("reads any number of messages, and begins anew when it is told to", function()
    local parser = llhttp.new("request")
    assert.equal(("headers end "):rep(1000),
                 read(request():rep(1000), 999, { parser }) .. " ")
    parser:execute("nonsense\r\n")
    assert.is_nil((parser:execute(request())))
    parser:reset()
    assert.equal("headers end", (read(request(), nil, { parser })))
  end)

  it("checks where it is told to begin", function()
    local parser = llhttp.new("request")
    assert.error_matches(function() parser:execute("abc", 5) end, "bad argument #2 to 'execute'")
    assert.error_matches(function() parser:execute("abc", 0) end, "bad argument #2 to 'execute'")
    assert.error_matches(function() parser.execute(io.stdout, "abc") end, "Parser expected")
    assert.equal("more", (parser:execute("abc", 4)))
  end)

  it("survives any bytes", function()
    local seed = 12345
    local function random(n)
      seed = (seed * 1103515245 + 12345) % 2147483648
      return seed // 65536 % n
    end
    local texts = { request("A: b", "Connection: upgrade", "Upgrade: x"),
                    "GET http://a/b HTTP/1.1\r\n" .. HOST .. "\r\n", "GET /\r\n",
                    CHUNKED .. "3;a=b\r\nabc\r\n0\r\nT: x\r\n\r\n",
                    "POST / HTTP/1.1\r\n" .. HOST .. "Content-Length: 10\r\n\r\n0123456789" }
    local function cgi(parser)
      assert.is_table(parser:cgi())
    end
    for _ = 1, support.sanitized and 2000 or 20000 do
      local text = texts[random(#texts) + 1]
      for _ = 0, random(3) do
        local at = random(#text) + 1
        text = text:sub(1, at - 1) .. string.char(random(256)) .. text:sub(at + random(2))
      end
      local whole, parts = read(text, nil, nil, cgi), read(text, 1 + random(9), nil, cgi)
      -- Bodies and errors may be cut differently; the messages found may not.
      assert.equal((whole:gsub("error:.*", "error")), (parts:gsub("error:.*", "error")),
                   ("%q"):format(text))
    end
  end)
end)
