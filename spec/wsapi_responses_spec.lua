-- Responses: what the application returns, and the bytes that the client gets.

local http = require "support.http"
local moonlet = require "moonlet"
local socket = require "moonlet.socket"
local support = require "support"

local get, ask, one, iterator = http.get, http.ask, http.one, http.iterator

local DATE = "%a%a%a, %d%d %a%a%a %d%d%d%d %d%d:%d%d:%d%d GMT"

-- A server that answers with what a table has for the path: { status, headers, body }, the body
-- made anew by a function `make`, if there is one.
local function answering(answers, opts)
  return http.serve(function(env)
    local answer = answers[env.PATH_INFO] or answers
    return answer[1], answer[2], answer.make and answer.make(env) or answer[3]
  end, opts)
end

-- The bytes with the date taken out.
local function dateless(bytes)
  return (bytes:gsub("Date: " .. DATE, "Date: DATE"))
end

describe("moonlet.wsapi: responses:", function()
  describe("a body", function()
    it("of one string has its length, and goes out with the head", function()
      local it <close> = answering { 200, { ["Content-Type"] = "text/html" }, "<p>Hello World</p>" }
      assert.equal("HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nDate: DATE\r\n" ..
                   "Content-Length: 18\r\n\r\n<p>Hello World</p>",
                   dateless(http.talk(it, get("/"))))
      local client <close> = http.connect(it)
      assert(client:send(get("/")))
      assert.matches("\r\n\r\n<p>Hello World</p>$", client:recv())
    end)

    it("of a list of strings has its length", function()
      local it <close> = answering { 200, {}, { "<p>Hello ", 42, " World</p>" } }
      local answer = one(it, get("/"))
      assert.same({ "21", "<p>Hello 42 World</p>" }, { answer.headers["content-length"],
                                                      answer.body })
      local other <close> = answering { 200, {}, {} }
      assert.equal("0", one(other, get("/")).headers["content-length"])
    end)

    it("may be missing, and the headers too", function()
      local it <close> = answering { 404 }
      local answer = one(it, get("/"))
      assert.same({ 404, "Not Found", "0", "" }, { answer.status, answer.reason,
                                                  answer.headers["content-length"], answer.body })
    end)

    it("of an iterator has one chunk for each piece, in HTTP/1.1", function()
      local it <close> = answering { 200, { ["Content-Type"] = "text/html" }, make = function()
        return iterator("", "<p>Hello", "", "World</p>", "")
      end }
      assert.equal("HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nDate: DATE\r\n" ..
                   "Transfer-Encoding: chunked\r\n\r\n8\r\n<p>Hello\r\n9\r\nWorld</p>\r\n0\r\n\r\n",
                   dateless(http.talk(it, get("/"))))
      assert.equal(2, #ask(it, get("/"):rep(2)))
    end)

    it("of an iterator goes up to the end of the connection, in HTTP/1.0", function()
      local it <close> = answering { 200, { ["Content-Type"] = "text/html" }, make = function()
        return iterator("<p>Hello", "World</p>")
      end }
      local expected = "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nConnection: close\r\n" ..
        "Date: DATE\r\n\r\n<p>HelloWorld</p>"
      assert.equal(expected, dateless(http.talk(it, "GET / HTTP/1.0\r\n\r\n")))
      assert.equal(expected, dateless(http.talk(it, "GET / HTTP/1.0\r\n" ..
                                                "Connection: keep-alive\r\n\r\n")))
    end)

    it("of an iterator with a length has no chunks", function()
      local it <close> = answering { 200, { ["content-length"] = 10 }, make = function()
        return iterator("01234", "", "56789")
      end }
      for _, text in ipairs { get("/"), "GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n" } do
        local list = ask(it, text:rep(2))
        assert.equal(2, #list)
        assert.equal("0123456789", list[2].body)
        assert.is_nil(list[2].headers["transfer-encoding"])
      end
    end)

    it("of an iterator that gives nothing is empty", function()
      local it <close> = answering { 200, {}, make = function() return iterator() end }
      assert.matches("\r\n\r\n0\r\n\r\n$", http.talk(it, get("/")))
      assert.matches("\r\n\r\n$", http.talk(it, "GET / HTTP/1.0\r\n\r\n"))
    end)

    it("may come from a coroutine that blocks, each piece at once", function()
      local gate = moonlet.spawn_later(10, print)
      local it <close> = answering { 200, {}, make = function()
        return coroutine.wrap(function()
          coroutine.yield("early")
          gate:join()
          coroutine.yield("late")
        end)
      end }
      local client <close> = http.connect(it)
      assert(client:send(get("/")))
      local text = ""
      support.eventually(function()
        text = text .. client:recv()
        return text:find("5\r\nearly\r\n$")
      end)
      gate:kill()
      assert.equal("4\r\nlate\r\n0\r\n\r\n", client:receive(14))
    end)

    it("may have trailers, returned by the iterator at its end", function()
      local it <close> = answering { 200, {}, make = function()
        local done
        return function()
          if done then
            return nil, { Sum = "1" }
          end
          done = true
          return "x"
        end
      end }
      local answer = one(it, get("/"))
      assert.same({ "x", "1", true }, { answer.body, answer.trailers.sum, answer.complete })
    end)

    it("of a megabyte arrives whole", function()
      local text = ("0123456789"):rep(100000)
      local it <close> = answering { ["/text"] = { 200, {}, text },
                                     ["/pieces"] = { 200, {}, make = function()
                                       return iterator(text, text)
                                     end } }
      assert.equal(text, one(it, get("/text")).body)
      assert.equal(text .. text, one(it, get("/pieces")).body)
    end)

    it("that is sent to a slow reader is not held in memory", function()
      local pieces = 0
      local it <close> = answering { 200, {}, make = function()
        local piece = ("x"):rep(65536)
        return function()
          pieces = pieces + 1
          return pieces <= 1000 and piece or nil
        end
      end }
      local client <close> = http.connect(it)
      assert(client:send(get("/", "Connection: close")))
      local before
      repeat
        before = pieces
        moonlet.sleep(0.02)
      until pieces == before and pieces > 0
      assert.is_true(pieces < 500)
      local total = 0
      for data in function() return client:recv() end do
        total = total + #data
      end
      assert.is_true(total > 1000 * 65536)
    end)
  end)

  describe("the head", function()
    it("has a Date unless the application gives one", function()
      local it <close> = answering { ["/"] = { 200 }, ["/own"] = { 200, { date = "never" } } }
      assert.matches("^" .. DATE .. "$", one(it, get("/")).headers.date)
      assert.equal("never", one(it, get("/own")).headers.date)
    end)

    it("has the status as a number or with words", function()
      for status, expected in pairs {
        [200] = "200 OK", ["200"] = "200 OK", ["200 Fine"] = "200 Fine", [404] = "404 Not Found",
        [418] = "418 ", ["404 "] = "404 Not Found", ["599 Own words"] = "599 Own words",
        [503] = "503 Service Unavailable",
      } do
        local it <close> = answering { status }
        local answer = one(it, get("/"))
        assert.equal(expected, answer.status .. " " .. answer.reason)
      end
    end)

    it("has whole numbers also if they are floats", function()
      local it <close> = answering { 404.0, { ["Content-Length"] = 3.0, Half = 0.5 }, "abc" }
      local answer = one(it, get("/"))
      assert.same({ 404, "3", "0.5" }, { answer.status, answer.headers["content-length"],
                                         answer.headers.half })
    end)

    it("has headers by name, lists of values, or all in an order", function()
      local it <close> = answering {
        ["/names"] = { 200, { A = 1, ["Set-Cookie"] = { "a=1", "b=2" } } },
        ["/order"] = { 200, { { "B", "2" }, { "A", "1" }, { "C", { 3, 4 } } } },
      }
      local text = http.talk(it, get("/names"))
      assert.matches("\r\nA: 1\r\n", text)
      assert.matches("\r\nSet%-Cookie: a=1\r\nSet%-Cookie: b=2\r\n", text)
      assert.matches("OK\r\nB: 2\r\nA: 1\r\nC: 3\r\nC: 4\r\nDate", http.talk(it, get("/order")))
    end)

    it("of any length goes out", function()
      local headers = {}
      for i = 1, 90 do
        headers["Name-" .. i] = ("v"):rep(500)
      end
      local it <close> = answering { 200, headers, "x" }
      local answer = one(it, get("/"))
      assert.equal(("v"):rep(500), answer.headers["name-90"])
      assert.equal("x", answer.body)
    end)

    it("may close the connection", function()
      local it <close> = answering { 200, { Connection = "close" } }
      local text = http.talk(it, get("/"):rep(2))
      assert.equal(1, #http.parse(text))
      assert.equal(1, select(2, text:gsub("Connection", "")))
    end)
  end)

  describe("no body is sent", function()
    it("for HEAD, whatever the application returns", function()
      local closed = 0
      local it <close> = answering {
        ["/text"] = { 200, {}, "body" },
        ["/length"] = { 200, { ["Content-Length"] = 4 } },
        ["/pieces"] = { 200, {}, make = function()
          return setmetatable({ close = function() closed = closed + 1 end },
                              { __call = function() return "x" end })
        end },
      }
      local list = ask(it, (get("/text") .. get("/length") .. get("/pieces") .. get("/text"))
                           :gsub("GET", "HEAD"), { true, true, true, true })
      assert.equal(4, #list)
      assert.equal("4", list[1].headers["content-length"])
      assert.equal("4", list[2].headers["content-length"])
      assert.equal("chunked", list[3].headers["transfer-encoding"])
      assert.equal(1, closed)
    end)

    it("with 204 and 304, which have no length and no chunks", function()
      for _, status in ipairs { 204, 304 } do
        for _, body in ipairs { "", {}, iterator() } do
          local it <close> = answering { status, { ["Content-Length"] = 0 }, body }
          local list = ask(it, get("/"):rep(2))
          assert.equal(2, #list)
          assert.is_nil(list[1].headers["content-length"])
          assert.is_nil(list[1].headers["transfer-encoding"])
        end
      end
    end)

    it("with 204 and 304: a body or a length is a mistake of the application", function()
      for _, status in ipairs { 204, 304 } do
        for _, answer in ipairs { { status, {}, "x" }, { status, { ["Content-Length"] = 1 } },
                                  { status, {}, make = function() return iterator("x") end } } do
          local it <close> = answering(answer)
          assert.equal(500, one(it, get("/")).status)
        end
      end
    end)
  end)

  describe("what could be something else", function()
    it("is refused: control characters in the status, names or values", function()
      for _, char in ipairs { "\r", "\n", "\0", "\r\n", "\127", "\1" } do
        for _, answer in ipairs { { "200 O" .. char .. "K" }, { 200, { A = "b" .. char } },
                                  { 200, { ["A" .. char] = "b" } }, { 200, { A = { "b", char } } },
                                  { 200, { { "A", "b" .. char .. "Injected: yes" } } } } do
          local it <close> = answering(answer)
          local text = http.talk(it, get("/"))
          assert.matches("^HTTP/1.1 500 Internal Server Error\r\n", text)
          assert.not_matches("Injected", text)
        end
      end
    end)

    it("is refused: what is no status, no header and no body", function()
      for _, answer in ipairs {
        { "OK" }, { 20 }, { 2000 }, { "2000" }, { 200.5 }, { {} }, { true }, { 100 }, { 199 },
        { "20x" }, { "200OK" }, { nil, {}, "x" },
        { 200, "x" }, { 200, { A = true } }, { 200, { A = { {} } } }, { 200, { [""] = "x" } },
        { 200, { ["A b"] = "x" } }, { 200, { ["A:"] = "x" } }, { 200, { "x" } },
        { 200, { { 1, 2 } } },
        { 200, { [true] = "x" } }, { 200, { ["Transfer-Encoding"] = "chunked" } },
        { 200, { ["Content-Length"] = "x" } }, { 200, { ["Content-Length"] = -1 } },
        { 200, { ["Content-Length"] = 1, ["content-length"] = 1 }, "x" },
        { 200, {}, true }, { 200, {}, io.stdout }, { 200, {}, { true } }, { 200, {}, { { "x" } } },
      } do
        local it <close> = answering(answer)
        local list = ask(it, get("/"):rep(2))
        assert.equal(1, #list)
        assert.same({ 500, "Internal Server Error", "text/plain", "close" },
                    { list[1].status, list[1].body, list[1].headers["content-type"],
                      list[1].headers.connection })
      end
    end)

    it("is cut where it comes too late for 500", function()
      for _, last in ipairs { true, {}, print } do
        local it <close> = answering { 200, {}, make = function() return iterator("x", last) end }
        local list = ask(it, get("/"):rep(2))
        assert.equal(1, #list)
        assert.same({ "x" }, { list[1].body, list[1].complete })
      end
    end)
  end)

  describe("a length that the application says and breaks", function()
    it("is answered 500 if the body is there as a whole", function()
      for _, length in ipairs { 2, 4 } do
        local it <close> = answering { 200, { ["Content-Length"] = length }, "abc" }
        assert.equal(500, one(it, get("/")).status)
      end
    end)

    it("cuts the connection if it is short, and sends no byte too many", function()
      local it <close> = answering { 200, { ["Content-Length"] = 5 }, make = function(env)
        return env.PATH_INFO == "/short" and iterator("abc") or iterator("abc", "defghi")
      end }
      for _, path in ipairs { "/short", "/long" } do
        local text = http.talk(it, get(path):rep(2))
        assert.matches("\r\n\r\nabc$", text)
        assert.is_nil(http.parse(text)[1].complete)
      end
    end)
  end)

  describe("a body with a method close", function()
    local closed

    local function closing(...)
      local next = iterator(...)
      return setmetatable({ close = function() closed = closed + 1 end }, { __call = function()
        local piece = next()
        if piece == "fail" then
          error("on purpose")
        end
        return piece
      end })
    end

    before_each(function()
      closed = 0
    end)

    it("is closed once when all is sent", function()
      local it <close> = answering { 200, {}, make = function() return closing("a", "b") end }
      assert.equal("ab", one(it, get("/")).body)
      assert.equal(1, closed)
    end)

    it("is closed once when it fails, early or late", function()
      for i, pieces in ipairs { { "fail" }, { "a", "fail" } } do
        local it <close> = answering { 200, {}, make = function()
          return closing(table.unpack(pieces))
        end }
        local list = ask(it, get("/"))
        assert.same({ i == 1 and 500 or 200, i }, { list[1].status, i })
        assert.equal(1, closed)
        closed = 0
      end
    end)

    it("is closed once when the request's body is wrong", function()
      local it <close> = answering { 200, {}, make = function(env)
        local body = closing()
        getmetatable(body).__call = function() return env.input:read() end
        return body
      end }
      assert.equal(400, one(it, http.chunked("/", "nonsense")).status)
      assert.equal(1, closed)
    end)

    it("is closed once when the headers are refused", function()
      local it <close> = answering { 200, { A = "\n" }, make = function() return closing("a") end }
      assert.equal(500, one(it, get("/")).status)
      assert.equal(1, closed)
    end)

    it("is closed once when the client leaves", function()
      local it <close> = answering { 200, {}, make = function()
        local body = closing()
        getmetatable(body).__call = function()
          moonlet.sleep(0.001)
          return "x"
        end
        return body
      end }
      local client = http.connect(it)
      assert(client:send(get("/")))
      client:recv()
      client:close()
      support.eventually(function() return closed == 1 end)
    end)

    it("is closed once when the server is stopped", function()
      local blocked = false
      local it <close> = answering { 200, {}, make = function()
        local body = closing()
        getmetatable(body).__call = function()
          blocked = true
          moonlet.sleep(100)
        end
        return body
      end }
      local client <close> = http.connect(it)
      assert(client:send(get("/")))
      support.eventually(function() return blocked end)
      assert.is_false(it:stop(0))
      assert.equal(1, closed)
    end)

    it("may be one of __close, and may fail itself", function()
      local errors = {}
      local it <close> = answering({ ["/meta"] = { 200, {}, make = function()
        return setmetatable({}, { __call = function() end, __close = function()
          closed = closed + 1
        end })
      end }, ["/fail"] = { 200, {}, make = function()
        return setmetatable({ close = function() error("in close") end },
                            { __call = function() end })
      end } }, { error_log = function(line) table.insert(errors, line) end })
      assert.equal(200, one(it, get("/meta")).status)
      assert.equal(1, closed)
      assert.is_true(one(it, get("/fail")).complete)
      assert.equal(1, #errors)
      assert.matches("in close", errors[1])
    end)
  end)

  describe("another protocol", function()
    local function upgrading(name)
      return get("/", "Connection: Upgrade", "Upgrade: " .. name)
    end

    it("begins with 101: raw bytes both ways, until the connection ends", function()
      local it <close> = http.serve(function(env)
        local input = env.input
        return 101, { Upgrade = "echo", Connection = "Upgrade" }, function()
          return input:read(5)
        end
      end)
      local client <close> = http.connect(it)
      assert(client:send(upgrading("echo") .. "hello"))
      local text = ""
      support.eventually(function()
        text = text .. client:recv()
        return text:find("hello$")
      end)
      assert.matches("^HTTP/1.1 101 Switching Protocols\r\n", text)
      assert.not_matches("chunked", text)
      assert.not_matches("Content%-Length", text)
      assert(client:send("world"))
      assert.equal("world", client:receive(5))
      client:shutdown("send")
      assert.equal("", client:receive("*a") or "")
    end)

    it("that the application does not know is no matter: others follow", function()
      local it <close> = http.serve(function(env)
        return 200, nil, env.PATH_INFO
      end)
      local list = ask(it, upgrading("unknown") .. get("/next"))
      assert.equal(2, #list)
      assert.equal("/next", list[2].body)
    end)

    it("may be served by a function of the server's", function()
      local it <close> = http.serve(function(env)
        return 200, nil, env.extra or "nothing"
      end, { upgrades = {
        whole = function(_, connection)
          local sock, rest = connection:take()
          sock:send("HTTP/1.1 101 Go\r\n\r\n" .. rest .. (sock:receive("*a") or ""))
          return true
        end,
        part = function(env)
          env.extra = "something"
        end,
      } })
      assert.equal("HTTP/1.1 101 Go\r\n\r\nabcdef", http.talk(it, upgrading("Whole") .. "abcdef"))
      assert.equal("something", one(it, upgrading("part")).body)
      assert.equal("nothing", one(it, upgrading("other")).body)
      assert.equal("nothing", one(it, upgrading("websocket")).body)
    end)

    it("is CONNECT's, which the application may refuse; nothing else follows then", function()
      local it <close> = http.serve(function(env)
        return 405, nil, env.PATH_INFO
      end)
      local list = ask(it, http.text("CONNECT there:80 HTTP/1.1") .. get("/more"))
      assert.equal(1, #list)
      assert.equal("there:80", list[1].body)
    end)
  end)

  it("are sent with one write where all of it is there", function()
    local it <close> = answering { 200, {}, "short" }
    local client <close> = http.connect(it)
    for _ = 1, 3 do
      assert(client:send(get("/")))
      assert.matches("short$", client:recv())
    end
  end)

  it("are not delayed by Nagle's algorithm", function()
    local option
    local it <close> = http.serve(function()
      return 200
    end)
    local handle = it.handle
    function it:handle(sock, address)
      option = sock:getoption("tcp-nodelay")
      return handle(self, sock, address)
    end
    one(it, get("/"))
    assert.is_true(option)
  end)

  it("go over sockets of the unix domain", function()
    local path = os.tmpname()
    os.remove(path)
    local seen
    local it = require("moonlet.wsapi").WSAPIServer("unix:" .. path, function(env)
      seen = { env.REMOTE_ADDR, env.REMOTE_PORT, env.SERVER_NAME, env.SERVER_PORT }
      return 200, nil, "ok"
    end, { log = false })
    local _ <close> = it
    assert(it:start())
    local client = assert(socket.create_connection("unix:" .. path))
    assert(client:send(get("/", "Connection: close")))
    assert.matches("ok$", client:receive("*a"))
    client:close()
    assert.same({ "", "", "", "" }, seen)
  end)
end)
