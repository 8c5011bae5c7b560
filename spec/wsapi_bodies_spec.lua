-- Bodies of requests: what the application reads, and what becomes of the rest.

local http = require "support.http"
local moonlet = require "moonlet"
local support = require "support"

local get, post, chunked, ask, one = http.get, http.post, http.chunked, http.ask, http.one

-- An application that answers with what `read` makes of env.input.
local function reading(read)
  return function(env)
    return 200, nil, tostring(read(env.input, env))
  end
end

local function everything(input)
  return input:read()
end

describe("moonlet.wsapi: bodies of requests:", function()
  describe("env.input", function()
    it("reads so many bytes, fewer only at the end, and nil after it", function()
      local parts = {}
      local it <close> = http.serve(reading(function(input)
        parts = { input:read(2), input:read(0), input:read(5), input:read(100), input:read(1),
                  input:read(0), input:read() }
        return input.length
      end))
      assert.equal("10", one(it, post("/", "0123456789")).body)
      assert.same({ "01", "", "23456", "789" }, parts)
    end)

    it("reads all, which is nil if there is nothing", function()
      local it <close> = http.serve(reading(function(input)
        return ("%s %s %s"):format(input:read(), input:read("a"), input:read("*a"))
      end))
      assert.equal("abc nil nil", one(it, post("/", "abc")).body)
      assert.equal("nil nil nil", one(it, get("/")).body)
      assert.equal("nil nil nil", one(it, post("/", "")).body)
    end)

    it("reads lines", function()
      local seen = support.trace()
      local it <close> = http.serve(reading(function(input)
        seen(input:read("l"), input:read("*L"))
        for line in input:lines() do
          seen("(" .. line .. ")")
        end
        return input:read("l")
      end))
      assert.equal("nil", one(it, post("/", "a\nb\nc\n\nd")).body)
      assert.equal("a b\n (c) () (d)", tostring(seen))
      for _, chunks in ipairs { "1\r\na\r\n2\r\n\nb\r\n6\r\n\nc\n\nd\n\r\n0\r\n\r\n" } do
        one(it, chunked("/", chunks))
      end
      assert.equal("a b\n (c) () (d) a b\n (c) () (d)", tostring(seen))
    end)

    it("gives lines of another form, or pieces of a size", function()
      local it <close> = http.serve(reading(function(input)
        local parts = {}
        for part in input:lines(input.length % 2 == 0 and 4 or "L") do
          parts[#parts + 1] = part
        end
        return table.concat(parts, "|")
      end))
      assert.equal("0123|4567|89", one(it, post("/", "0123456789")).body)
      assert.equal("a\n|b", one(it, post("/", "a\nb")).body)
    end)

    it("refuses what it does not know", function()
      local it <close> = http.serve(reading(function(input)
        assert.error_matches(function() input:read("n") end, "bad argument #1 to 'read'")
        assert.error_matches(function() input:read(-1) end, "bad argument #1 to 'read'")
        assert.error_matches(function() input:read({}) end, "bad argument #1 to 'read'")
        return "fine"
      end))
      assert.equal("fine", one(it, post("/", "abc")).body)
    end)

    it("blocks only its greenlet, until the bytes come", function()
      local it <close> = http.serve(reading(everything))
      local client <close> = http.connect(it)
      assert(client:send(post("/", "abc"):sub(1, -3)))
      support.turns(5)
      assert.equal("fine", one(it, post("/", "fine")).body)
      assert(client:send("bc"))
      assert.matches("abc$", http.receive(client))
    end)

    it("is of no use once the request is over", function()
      local kept, problem
      local it <close> = http.serve(function(env)
        if kept then
          problem = support.error_of(kept.read, kept)
        end
        kept = env.input
        return 200
      end)
      local list = ask(it, post("/", "abc") .. post("/", "def"))
      assert.equal(2, #list)
      assert.matches("the request is over", problem)
    end)

    it("has any bytes and any size in flat memory", function()
      local received = 0
      local it <close> = http.serve(function(env)
        local most = 0
        for piece in env.input:lines(65536) do
          received = received + #piece
          most = math.max(most, collectgarbage("count"))
        end
        return 200, nil, tostring(most)
      end)
      local client <close> = http.connect(it)
      local block = ("0123456789abcdef"):rep(4096)
      collectgarbage()
      local before = collectgarbage("count")
      assert(client:send(http.text("POST / HTTP/1.1", { "Content-Length: " .. 300 * #block })))
      for _ = 1, 300 do
        assert(client:send(block))
      end
      local most = tonumber(http.receive(client):match("\r\n\r\n(.*)"))
      assert.equal(300 * #block, received)
      assert.is_true(most - before < 8000, ("%.0f KiB more"):format(most - before))
    end)
  end)

  describe("in chunks", function()
    it("are joined, extensions are ignored, and trailers are told of", function()
      local it <close> = http.serve(reading(function(input)
        local before = input:trailers()
        local text = input:read()
        return ("%s %s %s %s"):format(text, before, input.length, input:trailers().sum)
      end))
      local chunks = "3\r\nabc\r\n00A;x=\"y z\"\r\n0123456789\r\n0\r\nSum: 1\r\nsum: 2\r\n\r\n"
      local list = ask(it, chunked("/", chunks) .. chunked("/", chunks, "Connection: close"))
      assert.equal(2, #list)
      assert.equal("abc0123456789 nil nil 1, 2", list[1].body)
    end)

    it("in any case of the coding's name", function()
      local it <close> = http.serve(reading(everything))
      assert.equal("x", one(it, http.text("POST / HTTP/1.1", { "TRANSFER-encoding: CHUNKED" },
                                          "1\r\nx\r\n0\r\n\r\n")).body)
    end)

    it("that are wrong are answered 400, and never become a request", function()
      local count = 0
      local it <close> = http.serve(function(env)
        count = count + 1
        return 200, nil, env.input:read()
      end)
      local smuggled = get("/smuggled")
      for _, chunks in ipairs {
        "3\r\nabc" .. smuggled, "3\r\nabcd\r\n0\r\n\r\n", "3\nabc\r\n0\r\n\r\n", "\r\n0\r\n\r\n",
        "0\r\n" .. smuggled, "x\r\nabc\r\n0\r\n\r\n", "-1\r\na\r\n0\r\n\r\n",
        "0x1\r\na\r\n0\r\n\r\n",
        "1 \r\na\r\n0\r\n\r\n", "1;\na\r\n0\r\n\r\n", "11111111111111111\r\na\r\n",
        "0\r\nContent-Length: 3\r\n\r\nabc", "0\r\nA : b\r\n\r\n", "0\r\nA: b\r\n c\r\n\r\n",
        "1;" .. ("a"):rep(8192) .. "\r\na\r\n0\r\n\r\n", ("0"):rep(9000) .. "\r\n\r\n",
        ("1;" .. ("a"):rep(1000) .. "\r\na\r\n"):rep(17) .. "0\r\n\r\n",
      } do
        count = 0
        local list = ask(it, chunked("/", chunks) .. smuggled)
        assert.equal(1, #list, chunks)
        assert.same({ 400, "close" }, { list[1].status, list[1].headers.connection }, chunks)
        assert.equal(1, count, chunks)
      end
    end)

    it("that are found wrong after the response close the connection", function()
      local count = 0
      local it <close> = http.serve(function()
        count = count + 1
        return 200, nil, "early"
      end)
      local list = ask(it, chunked("/", "3\r\nabc" .. get("/smuggled")) .. get("/more"))
      assert.equal(1, #list)
      assert.equal("early", list[1].body)
      assert.equal(1, count)
    end)
  end)

  describe("that nobody reads", function()
    it("are thrown away, and the next request is found behind them", function()
      for _, most in ipairs { 0, 1, 4 } do
        local paths = support.trace()
        local it <close> = http.serve(function(env)
          paths(env.PATH_INFO)
          env.input:read(most)
          return 200, nil, "ok"
        end)
        local list = ask(it, post("/1", get("/smuggled")) .. post("/2", ("x"):rep(100000)) ..
                         chunked("/3", "5\r\nabcde\r\n0\r\n\r\n") .. get("/4"))
        assert.equal(4, #list)
        assert.equal("/1 /2 /3 /4", tostring(paths))
      end
    end)

    it("are not waited for where they are long: the connection is closed", function()
      local it <close> = http.serve(function() return 200, nil, "no" end, { max_discard = 100 })
      local list = ask(it, post("/", ("x"):rep(101)) .. get("/more"))
      assert.equal(1, #list)
      assert.equal("close", list[1].headers.connection)
      list = ask(it, post("/", ("x"):rep(100)) .. get("/more"))
      assert.equal(2, #list)
      list = ask(it, chunked("/", "65\r\n" .. ("x"):rep(101) .. "\r\n0\r\n\r\n") .. get("/more"))
      assert.equal(1, #list)
    end)

    it("do not take the answer from a client that is still sending", function()
      local it <close> = http.serve(function() return 200, nil, "no" end, { max_discard = 1000 })
      local client <close> = http.connect(it)
      local sender = moonlet.spawn(function()
        client:send(post("/", ("x"):rep(500000)))
      end)
      assert.matches("^HTTP/1.1 200 .*no$", http.receive(client))
      sender:kill()
    end)
  end)

  describe("Expect: 100-continue", function()
    local CONTINUE = "HTTP/1.1 100 Continue\r\n\r\n"

    local function expecting(version, value, path)
      return http.text("POST " .. (path or "/") .. " HTTP/" .. version,
                       { "Content-Length: 3", "Expect: " .. value })
    end

    it("is answered when the application reads, and not before", function()
      local ready = moonlet.spawn(moonlet.sleep, 0.05)
      local it <close> = http.serve(reading(function(input)
        ready:join()
        return input:read()
      end))
      local client <close> = http.connect(it)
      assert(client:send(expecting("1.1", "100-Continue")))
      support.turns(5)
      assert.is_false(ready:ready())
      assert.equal(CONTINUE, http.receive(client))
      assert.is_true(ready:ready())
      assert(client:send("abc"))
      assert.matches("^HTTP/1.1 200.*\r\nabc$", http.receive(client))
    end)

    it("is not answered if the application does not read; a body is thrown away then", function()
      local it <close> = http.serve(function(env)
        return env.PATH_INFO == "/" and 403 or 200, nil, env.PATH_INFO
      end)
      local body = "GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"
      local text = http.text("POST / HTTP/1.1", { "Expect: 100-continue",
                                                  "Content-Length: " .. #body }, body)
      local list = ask(it, text .. get("/next"))
      assert.equal(2, #list)
      assert.same({ 403, "/next" }, { list[1].status, list[2].body })
    end)

    it("is not answered behind the response, while the body is waited for", function()
      local it <close> = http.serve(function(env)
        return 200, nil, env.PATH_INFO
      end)
      local client <close> = http.connect(it)
      assert(client:send(expecting("1.1", "100-continue")))
      local answers = http.receive(client)
      support.turns(5)
      assert(client:send("abc" .. get("/next", "Connection: close")))
      answers = answers .. (client:receive("*a") or "")
      assert.equal(2, select(2, answers:gsub("HTTP/1.1 ", "")))
    end)

    it("is not answered in HTTP/1.0, nor other values, nor once the response has begun", function()
      local it <close> = http.serve(function(env)
        if env.PATH_INFO == "/late" then
          local first = true
          return 200, nil, function()
            local text = first and "begun " or env.input:read()
            first = false
            return text
          end
        end
        return 200, nil, env.input:read()
      end)
      for _, text in ipairs { expecting("1.0", "100-continue"), expecting("1.1", "something"),
                              expecting("1.1", "100-continue", "/late") } do
        local list = ask(it, text .. "abc")
        assert.equal(1, #list)
        assert.matches("abc$", list[1].body)
      end
    end)

    it("is not answered if the body is there already", function()
      local it <close> = http.serve(reading(everything))
      assert.equal(1, #ask(it, expecting("1.1", "100-continue") .. "abc"))
    end)
  end)

  describe("a client that", function()
    local errors, log, problem

    local function failing(opts)
      errors, log, problem = {}, {}, nil
      opts = opts or {}
      opts.error_log = function(line) table.insert(errors, line) end
      opts.log = function(line) table.insert(log, line) end
      return http.serve(function(env)
        local ok, err = pcall(env.input.read, env.input)
        problem = not ok and err or nil
        if env.PATH_INFO == "/raise" then
          error(err, 0)
        end
        return 200, nil, "failed"
      end, opts)
    end

    it("leaves early is an error where the application reads", function()
      local it <close> = failing()
      http.talk(it, post("/", "abc"):sub(1, -2))
      assert.matches("unexpected end of file", tostring(problem))
      http.talk(it, chunked("/", "3\r\nab"))
      assert.matches("unexpected end of file", tostring(problem))
      http.talk(it, post("/raise", "abc"):sub(1, -2))
      assert.same({}, errors)
      assert.matches('"POST /raise HTTP/1.1" 400', log[3])
    end)

    it("does not begin in time is answered 408", function()
      local it <close> = failing { body_timeout = 0.02, linger_timeout = 0.01 }
      local client <close> = http.connect(it)
      assert(client:send(post("/raise", "abc"):sub(1, -2)))
      assert.matches("^HTTP/1.1 408 .*Connection: close", http.receive(client))
      assert.matches("too slowly", tostring(problem))
    end)

    it("is too slow on the way is answered 408", function()
      local it <close> = failing { body_timeout = 0.02, body_rate = 1000, linger_timeout = 0.01 }
      local client <close> = http.connect(it)
      assert(client:send(http.text("POST /raise HTTP/1.1", { "Content-Length: 1000000" })))
      local sender = moonlet.spawn(function()
        while client:send("x") do
          moonlet.sleep(0.002)
        end
      end)
      assert.matches("^HTTP/1.1 408 ", http.receive(client))
      sender:kill()
    end)

    it("sends too much in chunks is answered 413", function()
      local it <close> = failing { max_body = 10 }
      assert.equal(413, one(it, chunked("/raise", "b\r\n01234567890\r\n0\r\n\r\n")).status)
      assert.equal(413, one(it, post("/", "01234567890")).status)
      assert.equal(200, one(it, post("/", "0123456789")).status)
    end)

    it("aborts an upload leaves nothing behind", function()
      local it <close> = failing()
      for length = 0, 200, 20 do
        local client = http.connect(it)
        client:send(post("/raise", ("x"):rep(1000)):sub(1, 60 + length))
        client:setoption("linger", { on = true, timeout = 0 })
        client:close()
      end
      assert.equal(200, one(it, post("/", "abc")).status)
    end)
  end)
end)
