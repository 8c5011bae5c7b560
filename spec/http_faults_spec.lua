local Event = require("moonlet.event").Event
local http = require "moonlet.http"
local moonlet = require "moonlet"
local support = require "support"
local web = require "support.web"
local zlib = require "moonlet.zlib"

local CHUNKED = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nX: y\r\n\r\n" ..
                "4;a=b\r\nbody\r\n3\r\nend\r\n0\r\nX-T: z\r\n\r\n"
local COUNTED = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\nbodyend"
local PACKED = ("HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n%s"):format(
  #zlib.deflate():write("bodyend", "finish"), zlib.deflate():write("bodyend", "finish"))

-- A function that gives the pieces of a list one by one.
local function each(list)
  local i = 0
  return function()
    i = i + 1
    return list[i]
  end
end

-- Closes a connection so that the other end gets a reset.
local function reset(peer)
  peer.stream:setoption("linger", { on = true, timeout = 0 })
  peer.stream:close()
end

local function count_descriptors()
  local pipe <close> = assert(io.popen(("ls /proc/%d/fd | wc -l"):format(support.getpid())))
  return pipe:read("n")
end

describe("moonlet.http against faults:", function()
  local server, client

  local function start(handle)
    client = http.Client { proxy = false }
    server = web.start(handle)
    finally(function()
      client:close()
      server:stop()
    end)
  end

  local function serve(answer)
    start(function(peer)
      for request in peer.request, peer do
        if answer(peer, request) ~= nil then
          return
        end
      end
    end)
  end

  local function get(options)
    options = options or {}
    options.url = server:url()
    local response, message, number = client:request(options)
    return response, message, number
  end

  -- The whole body, or nil and why there is none, in the head or in the body.
  local function fetch(options)
    local response, message = get(options)
    if not response then
      return nil, message
    end
    local body, why = response:body()
    return body, why
  end

  local function all_closed()
    support.eventually(function()
      return server.open == 0
    end)
    assert.equal("<Client: 0 idle connections>", tostring(client))
  end

  for name, text in pairs { chunked = CHUNKED, counted = COUNTED, packed = PACKED } do
    describe("an answer, " .. name .. ",", function()
      it("that ends at any byte is not taken for a whole one", function()
        for _, finish in ipairs { function() end, reset } do
          local length = 0
          serve(function(peer)
            peer:send(text:sub(1, length))
            finish(peer)
            return true
          end)
          while length < #text do
            local body, message = fetch()
            assert.is_nil(body, length)
            assert.equal("closed", message)
            length = length + 1
          end
          all_closed()
          assert.equal(#text, server.count)
          client:close()
          server:stop()
        end
      end)

      it("comes whole however it is cut", function()
        local at
        serve(function(peer)
          if at then
            peer:send(text:sub(1, at))
            support.turns(2)
            peer:send(text:sub(at + 1))
          else
            for i = 1, #text do
              peer:send(text:sub(i, i))
              moonlet.sleep(0)
            end
          end
        end)
        assert.equal("bodyend", fetch())
        for i = 1, #text - 1 do
          at = i
          assert.equal("bodyend", fetch())
        end
        assert.equal(1, server.count)
      end)

      it("that stops at any byte leaves nothing behind when its reader is killed", function()
        local length = 0
        local sent = Event()
        serve(function(peer)
          peer:send(text:sub(1, length))
          sent:set()
          peer.stream:receive("*a")
          return true
        end)
        while length < #text do
          sent:clear()
          local g = moonlet.spawn(fetch)
          sent:wait()
          support.turns(2)
          assert.is_false(g:ready(), length)
          g:kill()
          length = length + 1
        end
        all_closed()
      end)

      it("that stops at any byte can be bounded by a Timeout", function()
        local length = 0
        serve(function(peer)
          peer:send(text:sub(1, length))
          peer.stream:receive("*a")
          return true
        end)
        while length < #text do
          local timeout = moonlet.Timeout(0.001)
          local response
          assert.equal(timeout, support.error_of(function()
            timeout:run(function()
              response = get()
              response:body()
            end)
          end))
          if response then
            response:close()
          end
          length = length + 3
        end
        all_closed()
      end)
    end)
  end

  it("what is no answer is an error", function()
    for text, message in pairs {
      ["hello\r\n\r\n"] = "invalid response: ",
      ["HTTP/1.1 2x0 OK\r\n\r\n"] = "invalid response: ",
      ["HTTP/3.0 200 OK\r\n\r\n"] = "invalid response: ",
      ["HTTP/1.1 200 OK\r\nA b: c\r\n\r\n"] = "invalid response: ",
      ["HTTP/1.1 200 OK\r\nA: b\0c\r\n\r\n"] = "invalid response: ",
      ["HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxx"] = "invalid response",
      ["HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\nxx"] = "invalid response: ",
      ["HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"] =
        "invalid response: ",
      ["HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n"] = "invalid response: ",
      ["HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nabc\r\n"] = "invalid response: ",
      ["HTTP/1.1 200 OK\r\nA: " .. ("x"):rep(70000) .. "\r\n\r\n"] = "invalid response: ",
      ["HTTP/1.1 200 OK\r\n" .. ("A: b\r\n"):rep(1001) .. "\r\n"] = "invalid response: ",
      ["HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n"] = "invalid response: ",
      ["HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 5\r\n\r\nhello"] =
        "invalid content coding: ",
      ["HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 2\r\n\r\n\31\139"] = "closed",
      ["HTTP/1.1 200 OK\r\nContent-Encoding: deflate\r\nContent-Length: 1\r\n\r\n\120"] = "closed",
    } do
      serve(function(peer)
        peer:send(text)
        return true
      end)
      local body, why = fetch()
      assert.is_nil(body, text)
      assert.equal(message, why:sub(1, #message))
      client:close()
      server:stop()
    end
  end)

  it("a server that never stops is stopped, and leaves others their turns", function()
    local text = { head = "HTTP/1.1 103 Early Hints\r\n\r\n", body = ("x"):rep(65536) }
    for part, piece in pairs(text) do
      serve(function(peer)
        peer:send(part == "body" and "HTTP/1.1 200 OK\r\n\r\n" or "")
        repeat
          local sent = peer:send(piece)
        until not sent
        return true
      end)
      local response, message = get { timeout = 0.1 }
      if response then
        message = select(2, response:body())
      end
      assert.equal(part == "body" and "timeout" or
                   "invalid response: too many informational ones", message)
      client:close()
      server:stop()
    end
  end)

  it("a body up to the end of the connection is not whole if that was reset", function()
    serve(function(peer)
      peer:send("HTTP/1.1 200 OK\r\n\r\nbody")
      moonlet.sleep(0.01)
      reset(peer)
      return true
    end)
    local response = assert(get())
    assert.same({ n = 3, nil, "closed", "body" }, table.pack(response:body()))
  end)

  it("a response that is closed wakes its reader", function()
    serve(function(peer)
      peer:send("HTTP/1.1 200 OK\r\n\r\nbody")
      peer.stream:receive("*a")
      return true
    end)
    local response = assert(get())
    local g = moonlet.spawn(response.body, response)
    support.turns()
    response:close()
    assert.same({ n = 3, nil, "closed", "body" }, table.pack(g:get()))
    all_closed()
  end)

  describe("a connection that the server closes as it is used again:", function()
    local function closing(partial)
      serve(function(peer)
        if #server.requests % 2 == 0 then
          peer:send(partial or "")
          return true
        end
        peer:reply(nil, nil, "body")
      end)
      assert.equal("body", fetch())
    end

    it("what may be repeated is repeated, on a new one", function()
      for _, options in ipairs { {}, { method = "PUT", body = "x" }, { method = "DELETE" } } do
        closing()
        assert.equal("body", fetch(options))
        assert.equal(3, #server.requests)
        assert.equal(2, server.count)
        assert.equal(options.body or "", server.requests[3].body)
        client:close()
        server:stop()
      end
    end)

    it("what may not is an error", function()
      for _, options in ipairs { { body = "x" }, { method = "PATCH", body = "x" },
                                 { method = "PUT", body = each { "x" } } } do
        closing()
        assert.same({ n = 2, nil, "closed" }, table.pack(fetch(options)))
        assert.equal(2, #server.requests)
        all_closed()
        client:close()
        server:stop()
      end
    end)

    it("an answer that has begun is not asked for again", function()
      closing("HTTP/1.1 2")
      assert.same({ n = 2, nil, "closed" }, table.pack(fetch()))
      assert.equal(2, #server.requests)
    end)

    it("a new one is not repeated", function()
      serve(function()
        return true
      end)
      assert.same({ n = 2, nil, "closed" }, table.pack(fetch()))
      assert.equal(1, #server.requests)
    end)
  end)

  describe("while a body is sent", function()
    it("an early answer is read, and the connection not used again", function()
      start(function(peer)
        if peer:head() then
          peer:reply("413 Content Too Large", nil, "no")
          moonlet.sleep(0.2)
        end
      end)
      for _, body in ipairs { ("x"):rep(20000000), function() return ("x"):rep(1000000) end } do
        local response = assert(get { body = body })
        assert.equal(413, response.status)
        assert.equal("no", response:body())
      end
      all_closed()
      assert.equal(2, server.count)
    end)

    it("the answer may be streamed back", function()
      start(function(peer)
        for _ in peer.head, peer do
          peer:send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
          for piece in peer.piece, peer do
            peer:send(("%x\r\n%s\r\n"):format(#piece, piece))
          end
          peer:send("0\r\n\r\n")
        end
      end)
      -- what was sent is waited for before more is sent
      local seen, count = Event(), 0
      local response = assert(get { body = function()
        seen:wait()
        seen:clear()
        count = count + 1
        return count <= 5 and "piece " .. count or nil
      end })
      local pieces = {}
      seen:set()
      for piece in response do
        table.insert(pieces, piece)
        seen:set()
      end
      assert.equal("piece 1,piece 2,piece 3,piece 4,piece 5", table.concat(pieces, ","))
      assert.equal("<Client: 1 idle connections>", tostring(client))
      local large = ("0123456789"):rep(500000)
      assert.is_true(fetch { body = large } == large)
    end)

    it("its function may wait, and is ended with the response", function()
      local seen = support.trace()
      start(function(peer)
        peer:head()
        peer:send("HTTP/1.1 200 OK\r\n\r\n")
        peer.stream:receive("*a")
      end)
      local response = get { body = function()
        local _ <close> = support.closing(seen, "ended")
        moonlet.sleep(20)
      end }
      assert.equal("", tostring(seen))
      response:close()
      support.turns()
      assert.equal("ended", tostring(seen))
      all_closed()
      do
        get { body = function()
          local _ <close> = support.closing(seen, "collected")
          moonlet.sleep(20)
        end }
      end
      support.eventually(function()
        collectgarbage()
        return #seen == 2
      end)
      all_closed()
    end)

    it("its sender can be killed, and leaves nothing behind", function()
      local seen = support.trace()
      start(function()
        moonlet.sleep(20)
      end)
      for _, body in ipairs {
        ("x"):rep(20000000),
        function()
          return ("x"):rep(1000000)
        end,
        function()
          local _ <close> = support.closing(seen, "ended")
          moonlet.sleep(20)
        end,
      } do
        local g = moonlet.spawn(get, { body = body })
        moonlet.sleep(0.02)
        g:kill()
        support.turns()
        assert.is_true(g.value:is(moonlet.GreenletExit))
      end
      assert.equal("ended", tostring(seen))
      assert.equal("<Client: 0 idle connections>", tostring(client))
    end)

    it("an error of its function is raised by the request", function()
      serve(function(peer)
        peer:reply()
      end)
      local err = {}
      assert.equal(err, support.error_of(get, { body = function()
        error(err)
      end }))
      for message, options in pairs {
        ["the body's function returned a number, not a string"] = { body = each { "x", 1 } },
        ["the body is longer than the 3 bytes announced"] = { body = each { "xx", "xx" },
                                                              length = 3 },
        ["the body is shorter than the 3 bytes announced"] = { body = each { "xx" }, length = 3 },
      } do
        assert.equal(message, support.error_of(get, options))
      end
      assert.equal(0, #server.requests - 4)
      all_closed()
    end)

    it("an error of its function after the answer's head is raised by the reader", function()
      start(function(peer)
        peer:head()
        peer:send("HTTP/1.1 200 OK\r\n\r\nbody")
        peer.stream:receive("*a")
      end)
      local go = Event()
      local response = get { body = function()
        go:wait()
        error("oops", 0)
      end }
      assert.equal("body", response:read(4))
      go:set()
      assert.equal("oops", support.error_of(response.read, response, 1))
      assert.same({ n = 3, nil, "the body's function failed", "" }, table.pack(response:body()))
      all_closed()
    end)

    it("a server that stops reading and closes is an error", function()
      start(function(peer)
        peer:head()
        reset(peer)
      end)
      for _, body in ipairs { ("x"):rep(20000000), function() return ("x"):rep(1000000) end } do
        assert.same({ n = 2, nil, "closed" }, table.pack(fetch { body = body }))
      end
      all_closed()
    end)
  end)

  describe("a body that the server is asked for first (Expect: 100-continue)", function()
    local expect = { Expect = "100-continue" }

    it("is sent when it says so", function()
      start(function(peer)
        for _ in peer.head, peer do
          peer:send("HTTP/1.1 100 Continue\r\n\r\n")
          local parts = {}
          for piece in peer.piece, peer do
            table.insert(parts, piece)
          end
          peer:reply(nil, nil, table.concat(parts))
        end
      end)
      local from = support.clock()
      assert.equal("hello", fetch { body = "hello", headers = expect })
      assert.equal("hello", fetch { body = each { "hel", "lo" }, headers = expect })
      assert.is_true(support.clock() - from < 0.9)
      assert.equal(1, server.count)
      assert.equal("100-continue", server.requests[1].headers.expect)
    end)

    it("is not sent if it answers otherwise", function()
      start(function(peer)
        peer:head()
        peer:send("HTTP/1.1 417 Expectation Failed\r\nContent-Length: 200000\r\n\r\n")
        moonlet.sleep(0.01)
        peer:send(("x"):rep(200000))
        peer.stream:receive("*a")
      end)
      local called = false
      local response = assert(get { headers = expect, body = function()
        called = true
      end })
      assert.equal(417, response.status)
      assert.equal(200000, #response:body())
      assert.is_false(called)
      all_closed()
    end)

    it("is sent after a while if it says nothing", function()
      serve(function(peer, request)
        peer:reply(nil, nil, request.body)
      end)
      assert.equal("hello", fetch { body = "hello", headers = expect })
    end)
  end)

  it("descriptors do not leak, whatever happens", function()
    local way
    start(function(peer)
      if way == "refuse" then
        return
      end
      peer:request()
      peer:send(way == "cut" and CHUNKED:sub(1, 70) or way == "silent" and "" or
                way == "invalid" and "x" or CHUNKED)
      if way == "silent" then
        peer.stream:receive("*a")
      end
    end)
    assert.equal("bodyend", fetch())
    client:close()
    all_closed()
    local before = count_descriptors()
    for i = 1, 100 do
      way = ({ "refuse", "cut", "silent", "invalid", "fine" })[i % 5 + 1]
      fetch { timeout = way == "silent" and 0.001 or nil }
    end
    client:close()
    all_closed()
    support.eventually(function()
      return count_descriptors() == before
    end)
  end)
end)
