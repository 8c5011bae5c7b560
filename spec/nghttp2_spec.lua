local nghttp2 = require "moonlet.nghttp2"
local support = require "support"

-- Both ends, joined: what one has to send is fed to the other, in pieces of the sizes that
-- `size` gives. Events are kept in their order.
local Pair = {}
Pair.__index = Pair

local function pair(server_limits, client_limits)
  return setmetatable({
    server = nghttp2.new("server", server_limits),
    client = nghttp2.new("client", client_limits),
    size = function()
      return math.maxinteger
    end,
    of = { server = {}, client = {} },
  }, Pair)
end

function Pair:keep(who, events)
  for _, event in ipairs(events or {}) do
    table.insert(self.of[who], event)
  end
end

-- One direction; false if there was nothing.
function Pair:move(from, to)
  local text, events = self[from]:pull()
  self:keep(from, events)
  local at = 1
  while text and at <= #text do
    local size = math.min(self.size(), #text)
    self:keep(to, assert(self[to]:feed(text:sub(at, at + size - 1))))
    at = at + size
  end
  return text ~= nil
end

function Pair:run()
  repeat
    local moved = self:move("client", "server")
    moved = self:move("server", "client") or moved
  until not moved
end

-- The events of a kind, taken.
function Pair:take(who, kind)
  local found, rest = {}, {}
  for _, event in ipairs(self.of[who]) do
    table.insert(event.kind == kind and found or rest, event)
  end
  self.of[who] = rest
  return found
end

local function joined(events)
  local parts = {}
  for i, event in ipairs(events) do
    parts[i] = event.data
  end
  return table.concat(parts)
end

local GET = "GET /path?query HTTP/1.1\r\nHost: here\r\n\r\n"
local POST = "POST / HTTP/1.1\r\nHost: here\r\n\r\n"
local OK = "HTTP/1.1 200 OK\r\n\r\n"

-- ---- frames made by hand, as no good client would ----

local PREFACE = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

local function frame(kind, flags, stream, payload)
  return string.pack(">I3BBI4", #payload, kind, flags, stream) .. payload
end

local DATA, HEADERS, RST_STREAM, SETTINGS, PING, CONTINUATION = 0, 1, 3, 4, 6, 9
local END_STREAM, END_HEADERS = 1, 4

-- A field without compression.
local function literal(name, value)
  return ("\0%c%s%c%s"):format(#name, name, #value, value)
end

local REQUEST = literal(":method", "GET") .. literal(":scheme", "http") .. literal(":path", "/") ..
                literal(":authority", "here")

local function headers(stream, block, flags)
  return frame(HEADERS, flags or END_HEADERS | END_STREAM, stream, block)
end

-- A server that has been told so much; the events, or nil and the error.
local function told(text, limits)
  local server = nghttp2.new("server", limits)
  local events, problem = server:feed(PREFACE .. frame(SETTINGS, 0, 0, "") .. text)
  return server, events, problem
end

-- What a server says, by kind of frame; and the events.
local function said(server)
  local kinds, all = {}, {}
  while true do
    local text, events = server:pull()
    for _, event in ipairs(events or {}) do
      table.insert(all, event)
    end
    if not text then
      return kinds, all
    end
    local at = 1
    while at <= #text do
      local length, kind, _, stream, from = string.unpack(">I3BBI4", text, at)
      kinds[kind] = { stream = stream, payload = text:sub(from, from + length - 1) }
      at = from + length
    end
  end
end

local function kinds_of(events)
  local kinds = {}
  for i, event in ipairs(events) do
    kinds[i] = event.kind
  end
  return table.concat(kinds, " ")
end

describe("moonlet.nghttp2", function()
  it("carries a request and its response", function()
    local ends = pair()
    local id = ends.client:request(GET)
    ends:run()
    local request = ends:take("server", "request")[1]
    assert.equal(id, request.stream)
    assert.is_true(request.ended)
    assert.equal("GET /path?query HTTP/1.1\r\nhost: here\r\n\r\n", request.head)
    assert.equal(1, #ends:take("server", "end"))

    assert.is_true(ends.server:respond(id, "HTTP/1.1 404 Not Found\r\nX-One: 1\r\n\r\n", true))
    assert.is_true(ends.server:data(id, "nothing here", true))
    ends:run()
    local response = ends:take("client", "response")[1]
    assert.equal(404, response.status)
    assert.is_false(response.ended)
    assert.equal("1", response.fields["x-one"])
    assert.equal("nothing here", joined(ends:take("client", "data")))
    local close = { kind = "close", stream = id, code = "NO_ERROR", left = 0 }
    assert.same(close, ends:take("client", "close")[1])
    assert.same(close, ends:take("server", "close")[1])
  end)

  it("needs no body on either side", function()
    local ends = pair()
    local id = ends.client:request(GET)
    ends:run()
    ends.server:respond(id, "HTTP/1.1 204 No Content\r\n\r\n")
    ends:run()
    assert.is_true(ends:take("client", "response")[1].ended)
    assert.equal(1, #ends:take("client", "end"))
    assert.equal(1, #ends:take("client", "close"))
  end)

  it("reads what comes in pieces of any size", function()
    local seed = 4711
    local ends = pair()
    ends.size = function()
      seed = (seed * 1103515245 + 12345) % 2147483648
      return seed >> 16 & 15
    end
    local body = ("0123456789abcdef"):rep(2000)
    local ids = {}
    for i = 1, 5 do
      ids[i] = ends.client:request(POST, true)
      ends.client:data(ids[i], body:sub(i), true, "Sum: " .. i .. "\r\n")
    end
    ends:run()
    local bodies = {}
    for _, event in ipairs(ends:take("server", "data")) do
      bodies[event.stream] = (bodies[event.stream] or "") .. event.data
    end
    local trailers = {}
    for _, event in ipairs(ends:take("server", "trailers")) do
      trailers[event.stream] = event.fields
    end
    for i, id in ipairs(ids) do
      assert.equal(body:sub(i), bodies[id])
      assert.same({ "sum", tostring(i), sum = tostring(i) }, trailers[id])
    end
    assert.equal(5, #ends:take("server", "end"))
  end)

  it("keeps the order and repetitions of fields", function()
    local ends = pair()
    local id = ends.client:request(
      "GET / HTTP/1.1\r\nCookie: a=1\r\nHost: here\r\nX:  b \r\nCookie: c=2\r\nEmpty:\r\n\r\n")
    ends:run()
    assert.equal("GET / HTTP/1.1\r\nhost: here\r\ncookie: a=1\r\nx: b\r\ncookie: c=2\r\n" ..
                 "empty: \r\n\r\n", ends:take("server", "request")[1].head)
    ends.server:respond(id, "HTTP/1.1 200 OK\r\nSet-Cookie: a\r\nVia: x\r\nVia: y\r\n\r\n")
    ends:run()
    assert.same({ "set-cookie", "a", "via", "x", "via", "y", ["set-cookie"] = "a", via = "x, y" },
                ends:take("client", "response")[1].fields)
  end)

  it("leaves out what belongs to a connection of HTTP/1", function()
    local ends = pair()
    local id = ends.client:request("GET / HTTP/1.1\r\nHost: here\r\nConnection: close\r\n" ..
                                   "Upgrade: h2c\r\nTE: gzip\r\nTE: trailers\r\n\r\n")
    ends:run()
    assert.equal("GET / HTTP/1.1\r\nhost: here\r\nte: trailers\r\n\r\n",
                 ends:take("server", "request")[1].head)
    ends.server:respond(id, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n" ..
                            "Keep-Alive: timeout=5\r\nDate: now\r\n\r\n")
    ends:run()
    assert.same({ "date", "now", date = "now" }, ends:take("client", "response")[1].fields)
  end)

  it("knows CONNECT, and OPTIONS *", function()
    local ends = pair()
    ends.client:request("CONNECT there:443 HTTP/1.1\r\nHost: here\r\n\r\n", true)
    ends.client:request("OPTIONS * HTTP/1.1\r\nHost: here\r\n\r\n")
    ends:run()
    local requests = ends:take("server", "request")
    assert.matches("^CONNECT there:443 HTTP/1.1\r\nhost: there:443\r\n", requests[1].head)
    assert.matches("^OPTIONS %* HTTP/1.1\r\n", requests[2].head)
  end)

  it("has responses before the response", function()
    local ends = pair()
    local id = ends.client:request(POST, true)
    ends:run()
    ends.server:respond(id, "HTTP/1.1 100 Continue\r\n\r\n")
    ends.server:respond(id, "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n")
    ends.server:respond(id, OK)
    ends:run()
    local before = ends:take("client", "informational")
    assert.equal(100, before[1].status)
    assert.equal("x", before[2].fields.link)
    assert.equal(200, ends:take("client", "response")[1].status)
  end)

  it("sends trailers behind a response", function()
    local ends = pair()
    local id = ends.client:request(GET)
    ends:run()
    ends.server:respond(id, OK, true)
    ends.server:data(id, "body", true, "X-Sum: 1\r\nX-Sum: 2\r\n")
    ends:run()
    assert.same({ "x-sum", "1", "x-sum", "2", ["x-sum"] = "1, 2" },
                ends:take("client", "trailers")[1].fields)
    assert.equal("NO_ERROR", ends:take("client", "close")[1].code)
  end)

  it("answers pings", function()
    local ends = pair()
    ends.client:ping("12345678")
    ends.server:ping()
    ends:run()
    assert.equal("12345678", ends:take("client", "pong")[1].data)
    assert.equal(("\0"):rep(8), ends:take("server", "pong")[1].data)
  end)

  it("tells of settings and their acknowledgement", function()
    local ends = pair({ streams = 7 })
    ends:run()
    assert.equal(1, #ends:take("client", "settings"))
    assert.equal(1, #ends:take("client", "acknowledged"))
    assert.equal(7, ends.client:allowed())
  end)
end)

describe("the flow of an HTTP/2 session", function()
  it("sends no more than the other end takes", function()
    local ends = pair({ window = 100000 })
    local id = ends.client:request(POST, true)
    ends:run()
    assert.equal(100000, ends.client:window(id))
    ends.client:data(id, ("x"):rep(250000))
    ends:run()
    assert.equal(100000, #joined(ends:take("server", "data")))
    assert.equal(0, #ends:take("client", "drained"))
    assert.equal(0, ends.client:window(id))
    assert.equal(150000, ends.client:left(id))
    ends.server:consume(id, 100000)
    ends:run()
    ends.server:consume(id, 100000)
    ends:run()
    assert.equal(150000, #joined(ends:take("server", "data")))
    assert.same({ { kind = "drained", stream = id } }, ends:take("client", "drained"))
    ends.client:data(id, "", true)
    ends:run()
    assert.equal(1, #ends:take("server", "end"))
  end)

  it("lets one stream that nobody reads stop no other", function()
    local ends = pair({ window = 65535 })
    local stuck = {}
    for i = 1, 40 do
      stuck[i] = ends.client:request(POST, true)
      ends.client:data(stuck[i], ("x"):rep(100000), true)
    end
    ends:run()
    assert.equal(40 * 65535, #joined(ends:take("server", "data")))
    local id = ends.client:request(POST, true)
    ends.client:data(id, "through", true)
    ends:run()
    assert.equal("through", joined(ends:take("server", "data")))
  end)

  it("takes one piece at a time", function()
    local ends = pair()
    local id = ends.client:request(POST, true)
    ends.client:data(id, "one")
    assert.matches("under way", support.error_of(ends.client.data, ends.client, id, "two"))
    ends:run()
    ends.client:data(id, "two", true)
    assert.matches("under way", support.error_of(ends.client.data, ends.client, id, "three"))
    ends:run()
    assert.equal("onetwo", joined(ends:take("server", "data")))
  end)

  it("pulls about as much as it is asked for", function()
    local ends = pair()
    local id = ends.client:request(POST, true)
    ends:run()
    ends.client:data(id, ("x"):rep(200000), true)
    local text = ends.client:pull(1)
    assert.is_true(#text <= 16384 + 9)
    assert.is_true(ends.client:want_write())
    text = ends.client:pull(50000)
    assert.is_true(#text >= 50000 and #text < 50000 + 16384 + 9)
  end)

  it("serves streams in turn", function()
    local ends = pair(nil, { window = 1000000 })
    local first, second = ends.client:request(GET), ends.client:request(GET)
    ends:run()
    for _, id in ipairs { first, second } do
      ends.server:respond(id, OK, true)
      ends.server:data(id, ("x"):rep(60000), true)
    end
    ends:run()
    local order = {}
    for _, event in ipairs(ends:take("client", "data")) do
      if order[#order] ~= event.stream then
        table.insert(order, event.stream)
      end
    end
    assert.is_true(#order >= 4)
  end)

  it("keeps requests that are not allowed yet for later", function()
    local ends = pair({ streams = 2 })
    ends:run()
    local ids = {}
    for i = 1, 4 do
      ids[i] = ends.client:request(POST, true)
      assert.is_true(ends.client:data(ids[i], "body" .. i, true))
    end
    ends:run()
    assert.equal(2, #ends:take("server", "request"))
    ends.server:respond(ids[1], OK)
    ends.server:respond(ids[2], OK)
    ends:run()
    assert.equal(2, #ends:take("server", "request"))
    assert.equal("body1body2body3body4", joined(ends:take("server", "data")))
  end)
end)

describe("the end of an HTTP/2 stream", function()
  it("is told to the other end with its code", function()
    local ends = pair()
    local id, other = ends.client:request(GET), ends.client:request(GET)
    ends:run()
    ends.client:reset(id)
    ends.server:reset(other, "REFUSED_STREAM")
    ends:run()
    local closed = { { kind = "close", stream = id, code = "CANCEL", left = 0 },
                     { kind = "close", stream = other, code = "REFUSED_STREAM", left = 0 } }
    assert.same(closed, ends:take("server", "close"))
    assert.same(closed, ends:take("client", "close"))
    assert.same({ nil, "closed" }, { ends.server:respond(id, OK) })
    assert.same({ nil, "closed" }, { ends.server:data(id, "x") })
    assert.equal(0, ends.server:left(id))
    ends.server:consume(id, 10)
    ends.server:reset(id)
  end)

  it("may come before that of the request, once the response is sent", function()
    local ends = pair()
    local id = ends.client:request(POST, true)
    ends.client:data(id, ("x"):rep(1000))
    ends:run()
    ends.server:respond(id, OK, true)
    ends.server:data(id, "enough", true)
    ends:run()
    assert.equal("enough", joined(ends:take("client", "data")))
    assert.same({ { kind = "sent", stream = id } }, ends:take("server", "sent"))
    ends.server:reset(id, "NO_ERROR")
    ends:run()
    assert.equal("NO_ERROR", ends:take("client", "close")[1].code)
    assert.equal("NO_ERROR", ends:take("server", "close")[1].code)
  end)

  it("lets go of the piece that was under way", function()
    local ends = pair()
    local id = ends.client:request(POST, true)
    ends:run()
    ends.client:data(id, ("x"):rep(10000000))
    ends:run()
    ends.client:reset(id)
    ends:run()
    assert.equal(10000000 - 262144, ends:take("client", "close")[1].left)
    collectgarbage()
    assert.is_true(collectgarbage("count") < 9000)
  end)

  it("of all streams is near after goaway", function()
    local ends = pair()
    local id = ends.client:request(GET)
    ends:run()
    ends.server:goaway()
    ends:run()
    assert.same({ { kind = "goaway", stream = id, code = "NO_ERROR" } },
                ends:take("client", "goaway"))
    ends.client:request(GET)
    ends:run()
    assert.equal("REFUSED_STREAM", ends:take("client", "close")[1].code)
    assert.is_true(ends.server:want_read())
    ends.server:respond(id, OK)
    ends:run()
    assert.equal(200, ends:take("client", "response")[1].status)
    assert.is_false(ends.server:want_read())
    assert.is_false(ends.server:want_write())
    assert.is_false(ends.client:want_read())
  end)

  it("is at once with an error of the connection", function()
    local ends = pair()
    ends.client:request(GET)
    ends:run()
    ends.server:goaway("ENHANCE_YOUR_CALM")
    ends:run()
    assert.equal("ENHANCE_YOUR_CALM", ends:take("client", "goaway")[1].code)
    assert.equal("ENHANCE_YOUR_CALM", ends:take("server", "failed")[1].code)
    assert.is_false(ends.server:want_read())
  end)
end)

describe("an HTTP/2 session does not put up with", function()
  it("what is no HTTP/2", function()
    local server = nghttp2.new("server")
    local events, problem = server:feed("GET / HTTP/1.1\r\nHost: here\r\n\r\n")
    assert.is_nil(events)
    assert.matches("magic", problem)
    assert.same({ nil, "closed" }, { server:feed("x") })
    assert.is_false(server:want_read())
    assert.matches("broken", tostring(server))
  end)

  it("frames that are too large", function()
    local server = told(string.pack(">I3BBI4", 16385, DATA, 0, 1))
    local _, events = said(server)
    assert.same({ { kind = "failed", code = "FRAME_SIZE_ERROR" } }, events)
    assert.is_false(server:want_read())
  end)

  it("headers that are no headers", function()
    for _, block in ipairs {
      literal("X-Upper", "a"), literal("connection", "close"), literal("upgrade", "h2c"),
      literal("transfer-encoding", "chunked"), literal(":status", "200"), literal("te", "gzip"),
      literal("x", "a\r\nb: c"), literal("x y", "a"), literal(":path", "/again"),
      literal("content-length", "1"),
    } do
      local server, events = told(headers(1, REQUEST .. block))
      local frames, more = said(server)
      assert.equal("settings", kinds_of(events))
      assert.equal("\0\0\0\1", frames[RST_STREAM].payload)
      assert.equal("close", kinds_of(more))
      assert.equal("PROTOCOL_ERROR", more[1].code)
      assert.is_true(server:want_read())
    end
  end)

  it("requests without their parts", function()
    for _, block in ipairs { literal(":method", "GET"), literal("x", "y"), "" } do
      local server, events = told(headers(1, block))
      assert.equal("settings", kinds_of(events))
      assert.is_not_nil(said(server)[RST_STREAM])
    end
  end)

  it("bodies longer or shorter than they say", function()
    local block = REQUEST .. literal("content-length", "3")
    local server, events = told(headers(1, block, END_HEADERS) .. frame(DATA, END_STREAM, 1, "ab"))
    assert.equal("settings request data", kinds_of(events))
    assert.is_not_nil(said(server)[RST_STREAM])
    server, events = told(headers(1, block, END_HEADERS) .. frame(DATA, END_STREAM, 1, "abcd"))
    assert.equal("settings request", kinds_of(events))
    assert.is_not_nil(said(server)[RST_STREAM])
  end)

  it("more streams than it allows", function()
    local text = {}
    for i = 0, 2 do
      text[i + 1] = headers(2 * i + 1, REQUEST)
    end
    local server, events = told(table.concat(text), { streams = 2 })
    assert.equal("settings request end request end", kinds_of(events))
    local refused = said(server)[RST_STREAM]
    assert.same({ stream = 5, payload = "\0\0\0\7" }, refused)
  end)

  it("too long a header, of which it keeps nothing", function()
    local field = literal("x", ("y"):rep(100))
    local block = REQUEST .. field:rep(600)
    local text = { frame(HEADERS, END_STREAM, 1, block:sub(1, 16384)) }
    for at = 16385, #block, 16384 do
      local flags = at + 16384 > #block and END_HEADERS or 0
      table.insert(text, frame(CONTINUATION, flags, 1, block:sub(at, at + 16383)))
    end
    local server, events = told(table.concat(text))
    assert.equal("settings request end", kinds_of(events))
    assert.is_true(events[2].overlong)
    assert.is_nil(events[2].head)
    assert.is_true(server:respond(1, "HTTP/1.1 431 Request Header Fields Too Large\r\n\r\n"))
    local again = server:feed(headers(3, REQUEST))
    assert.matches("^GET / HTTP/1.1\r\n", again[1].head)
  end)

  it("an endless header", function()
    local server, events, problem = told(frame(HEADERS, 0, 1, REQUEST) ..
                                         frame(CONTINUATION, 0, 1, literal("x", "y")):rep(20))
    assert.is_nil(events)
    assert.matches("CONTINUATION", problem)
    assert.is_false(server:want_read())
  end)

  it("a flood of resets", function()
    local server = told("")
    local ended
    for i = 0, 4999 do
      local id = 2 * i + 1
      server:feed(headers(id, REQUEST) .. frame(RST_STREAM, 0, id, "\0\0\0\8"))
      local _, events = said(server)
      for _, event in ipairs(events) do
        ended = ended or event.kind == "failed" and i
      end
      if ended then
        break
      end
    end
    assert.is_true(ended and ended >= 1000 and ended < 1500, tostring(ended))
    assert.is_false(server:want_read())
  end)

  it("as many resets as it is told", function()
    local server = told("", { resets = 10 })
    local text = {}
    for i = 0, 99 do
      local id = 2 * i + 1
      text[i + 1] = headers(id, REQUEST) .. frame(RST_STREAM, 0, id, "\0\0\0\8")
    end
    server:feed(table.concat(text))
    local _, events = said(server)
    assert.equal("failed", events[#events].kind)
  end)

  it("floods of pings and settings whose answers nobody reads", function()
    for _, flood in ipairs { frame(PING, 0, 0, "12345678"), frame(SETTINGS, 0, 0, "") } do
      local _, events, problem = told(flood:rep(2000))
      assert.is_nil(events)
      assert.matches("[Ff]lood", problem)
    end
  end)

  it("a window that is overrun", function()
    local server = told(headers(1, REQUEST, END_HEADERS), { window = 1000 })
    said(server)
    server:feed(frame(SETTINGS, 1, 0, ""))
    server:feed(frame(DATA, 0, 1, ("x"):rep(1001)))
    local frames, events = said(server)
    assert.is_true(frames[RST_STREAM] ~= nil or events[#events].kind == "failed")
  end)

  it("bytes at random", function()
    local seed = 99
    for _ = 1, 200 do
      local bytes = {}
      for i = 1, 300 do
        seed = (seed * 1103515245 + 12345) % 2147483648
        bytes[i] = string.char(seed >> 16 & 255)
      end
      local server = told(table.concat(bytes))
      said(server)
    end
  end)
end)

describe("an HTTP/2 session as an object", function()
  it("refuses bad arguments, naming them", function()
    assert.matches("bad argument #1 to '.-new'", support.error_of(nghttp2.new, "proxy"))
    assert.matches("bad argument #2 to 'new' %(limit 'streams'",
                   support.error_of(nghttp2.new, "server", { streams = 0 }))
    assert.matches("bad argument #2 to 'new' %(limit 'window'",
                   support.error_of(nghttp2.new, "server", { window = "x" }))
    local client, server <close> = nghttp2.new("client"), nghttp2.new("server")
    local function refused(pattern, f, ...)
      assert.matches(pattern, support.error_of(f, ...))
    end
    refused("of a server", server.request, server, GET)
    refused("of a client", client.respond, client, 1, OK)
    refused("no request line", client.request, client, "GET /\r\n\r\n")
    refused("no request line", client.request, client, "")
    refused("no Host", client.request, client, "GET / HTTP/1.1\r\n\r\n")
    refused("no target", client.request, client, "GET a\tb HTTP/1.1\r\nHost: x\r\n\r\n")
    refused("no field name", client.request, client, "GET / HTTP/1.1\r\nHost: x\r\na b: c\r\n\r\n")
    refused("a field value", client.request, client, "GET / HTTP/1.1\r\nHost: x\r\na: \0\r\n\r\n")
    refused("without an end", client.request, client, "GET / HTTP/1.1\r\nHost: x")
    refused("no status", server.respond, server, 1, "HTTP/1.1 20 OK\r\n\r\n")
    refused("101", server.respond, server, 1, "HTTP/1.1 101 Switching Protocols\r\n\r\n")
    refused("no stream's number", server.respond, server, 0, OK)
    refused("no field name", server.data, server, 1, "", true, "x\r\n")
    refused("#3", server.reset, server, 1, "BORED")
    refused("#2", server.goaway, server, "BORED")
    refused("eight bytes", server.ping, server, "ping")
    refused("negative", server.consume, server, 1, -1)
    refused("Session expected", server.feed, io.stdout, "")
    client:close()
  end)

  it("is closed twice without harm", function()
    local session = nghttp2.new("server")
    assert.matches("^Session: .* %(of a server, 0 streams%)$", tostring(session))
    session:close()
    session:close()
    assert.matches("%(of a server, closed%)$", tostring(session))
    assert.matches("closed", support.error_of(session.feed, session, ""))
  end)

  it("is collected with streams under way", function()
    for _ = 1, 50 do
      local ends = pair()
      for _ = 1, 10 do
        ends.client:data(ends.client:request(POST, true), ("x"):rep(1000))
      end
      ends:run()
    end
    collectgarbage()
  end)
end)
