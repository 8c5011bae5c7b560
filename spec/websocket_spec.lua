-- The object at either end: messages, pings, closing, what happens when something breaks.

local frames = require "support.frames"
local moonlet = require "moonlet"
local support = require "support"
local ends = require "support.websocket"

local LONG = ("0123456789abcdef"):rep(1 << 16) -- 1 MiB: more than a socket takes at once

local function closed(...)
  local n = select("#", ...)
  local data, word, code, reason = ...
  assert.is_nil(data)
  assert.equal("closed", word)
  assert.equal(4, n)
  return code, reason
end

for _, side in ipairs { "server", "client" } do
  describe("a WebSocket of a " .. side, function()
    local ws, peer

    local function new(opts)
      ws, peer = ends[side](opts)
    end

    before_each(function()
      new()
    end)

    after_each(function()
      peer:close()
      ws:close()
    end)

    -- What the spec's end reads, as a list of "opcode:payload", up to the end of the connection.
    local function read_all()
      local list = {}
      for frame in peer.frame, peer do
        list[#list + 1] = frame.opcode .. ":" .. frame.payload
      end
      return list
    end

    local function on_close_frame()
      local frame = peer:frame()
      assert.equal(8, frame and frame.opcode)
      if frame.payload == "" then
        return nil, ""
      end
      return string.unpack(">I2", frame.payload), frame.payload:sub(3)
    end

    describe("send", function()
      it("sends text, or what the second argument says", function()
        assert.is_true(ws:send("grün"))
        assert.is_true(ws:send("a", "text"))
        assert.is_true(ws:send("\xFF\0", "binary"))
        assert.is_true(ws:send(""))
        for _, expected in ipairs { { 1, "grün" }, { 1, "a" }, { 2, "\xFF\0" }, { 1, "" } } do
          local frame = peer:frame()
          assert.same(expected, { frame.opcode, frame.payload })
          assert.equal(side == "client", frame.masked)
        end
      end)

      it("refuses what is no message", function()
        assert.has_error(function() ws:send() end,
                         "bad argument #1 to 'send' (string expected, got no value)")
        assert.has_error(function() ws:send({}) end)
        assert.has_error(function() ws:send("x", "ping") end,
                         "bad argument #2 to 'send' (invalid option 'ping')")
        assert.has_error(function() ws:send("\xFF") end,
                         "bad argument #1 to 'send' (text must be UTF-8)")
        assert.is_true(ws:send("fine"))
      end)

      it("waits for a peer that does not read", function()
        local g = moonlet.spawn(ws.send, ws, LONG)
        support.turns(20)
        assert.is_false(g:ready())
        local whole = ""
        repeat
          local frame = peer:frame()
          whole = whole .. frame.payload
        until frame.fin
        assert.is_true(g:get())
        assert.equal(LONG, whole)
      end)

      it("keeps messages of several greenlets apart", function()
        local greenlets, expected = {}, {}
        for i = 1, 5 do
          local data = tostring(i):rep(200000)
          expected[i] = data
          greenlets[i] = moonlet.spawn(ws.send, ws, data)
        end
        local parts = {}
        while #parts < 5 or #parts[5] < 200000 do
          local frame = peer:frame()
          if frame.opcode == 1 then
            parts[#parts + 1] = frame.payload
          else
            parts[#parts] = parts[#parts] .. frame.payload
          end
        end
        assert.same(expected, parts)
        moonlet.joinall(greenlets)
      end)

      it("bounds what may wait", function()
        new { max_queue = 1000 }
        local first = moonlet.spawn(ws.send, ws, LONG)
        support.turns()
        local large = moonlet.spawn(ws.send, ws, ("x"):rep(2000)) -- one always may
        support.turns()
        assert.same({ nil, "full" }, { ws:send("x") })
        moonlet.kill(large)
        local small = moonlet.spawn(ws.send, ws, ("x"):rep(1000))
        support.turns()
        assert.same({ nil, "full" }, { ws:send("x") })
        peer:close()
        closed(first:get())
        closed(small:get())
      end)

      it("gives up on a peer that takes nothing for so long", function()
        new { send_timeout = 0.02 }
        local code, reason = closed(ws:send(LONG))
        assert.equal(1006, code)
        assert.equal("the peer does not read", reason)
        assert.equal("closed", ws.state)
      end)

      it("says so when the connection is gone", function()
        peer:close()
        support.eventually(function()
          return not ws:send("x")
        end)
        assert.equal(1006, closed(ws:send("x")))
        assert.equal(1006, closed(ws:receive()))
        assert.equal(1006, closed(ws:ping()))
      end)
    end)

    describe("a greenlet that is killed in send", function()
      it("breaks the connection if its message was under way", function()
        local g = moonlet.spawn(ws.send, ws, LONG)
        support.turns()
        moonlet.kill(g)
        g:join()
        local code, reason = closed(ws:send("x"))
        assert.equal(1006, code)
        assert.equal("interrupted while it was sending", reason)
        for frame in peer.frame, peer do -- whole frames, then the end
          assert.equal(LONG:sub(1, #frame.payload), frame.payload)
        end
      end)

      it("leaves the connection as it is if its turn had not come", function()
        local first = moonlet.spawn(ws.send, ws, LONG)
        support.turns()
        local second = moonlet.spawn(ws.send, ws, "never")
        local third = moonlet.spawn(ws.send, ws, "third")
        support.turns()
        moonlet.kill(second)
        repeat
          local frame = peer:frame()
        until frame.fin
        assert.equal("third", peer:frame().payload)
        assert.is_true(first:get())
        assert.is_true(third:get())
      end)

      it("breaks it by a timeout, too", function()
        assert.same({ nil, "timeout" }, { moonlet.with_timeout(0.02, ws.send, ws, LONG) })
        assert.equal("closed", ws.state)
      end)
    end)

    describe("receive", function()
      it("gives messages and their kinds in their order", function()
        peer:send("text", "one")
        peer:send("binary", "\0\xFF")
        peer:send("text", "")
        peer:send("text", "a", { fin = false })
        peer:send("continuation", "b")
        assert.same({ "one", "text" }, { ws:receive() })
        assert.same({ "\0\xFF", "binary" }, { ws:receive() })
        assert.same({ "", "text" }, { ws:receive() })
        assert.same({ "ab", "text" }, { ws:receive() })
      end)

      it("waits, but no longer than it is told", function()
        assert.same({ nil, "timeout" }, { ws:receive(0) })
        assert.same({ nil, "timeout" }, { ws:receive(-1) })
        assert.same({ nil, "timeout" }, { ws:receive(0.01) })
        peer:send("text", "x")
        support.eventually(function()
          return ws:receive(0) == "x"
        end)
        local g = moonlet.spawn(ws.receive, ws, 10)
        support.turns()
        peer:send("text", "y")
        assert.same({ "y", "text" }, { g:get() })
      end)

      it("keeps to its limit although pings go on and on", function()
        local beat = frames.make("ping", "", { mask = peer.mask })
        local g = moonlet.spawn(function()
          while peer.stream:send(beat) do
            peer.stream:recv()
          end
        end)
        assert.same({ nil, "timeout" }, { ws:receive(0.02) })
        assert.same({ nil, "timeout" }, { ws:receive(0) })
        moonlet.kill(g)
        g:join()
      end)

      it("takes a Timeout that is started", function()
        local limit <close> = moonlet.Timeout.start_new(0.01)
        local ok, err = pcall(ws.receive, ws, limit)
        assert.is_false(ok)
        assert.equal(limit, err)
      end)

      it("refuses other limits", function()
        assert.has_error(function() ws:receive("soon") end,
                         "bad argument #1 to 'receive' (number expected, got string)")
      end)

      it("loses nothing when it is killed or timed out", function()
        local bytes = frames.make("text", "whole", { mask = peer.mask })
        for i = 1, #bytes do
          local g = moonlet.spawn(ws.receive, ws)
          peer.stream:send(bytes:sub(i, i))
          support.turns()
          if i < #bytes then
            moonlet.kill(g)
            g:join()
            assert.same({ nil, "timeout" }, { ws:receive(0) })
          else
            assert.equal("whole", g:get())
          end
        end
      end)

      it("is for one greenlet at a time", function()
        local g = moonlet.spawn(ws.receive, ws)
        support.turns()
        local err = support.error_of(ws.receive, ws)
        assert.truthy(err:find("another greenlet is receiving", 1, true), err)
        moonlet.kill(g)
        g:join()
        assert.same({ nil, "timeout" }, { ws:receive(0) })
      end)

      it("is what a for loop does", function()
        peer:send("text", "a")
        peer:send("binary", "b")
        peer:send("close", frames.close(1000))
        local seen = support.trace()
        for data, kind in ws do
          seen(data, kind)
        end
        assert.equal("a text b binary", tostring(seen))
      end)

      it("gives what came before a broken connection", function()
        peer:send("text", "last")
        peer:close()
        assert.equal("last", ws:receive())
        assert.equal(1006, closed(ws:receive()))
      end)
    end)

    describe("pings", function()
      it("are answered while somebody receives", function()
        local g = moonlet.spawn(ws.receive, ws)
        for _, data in ipairs { "", "beat", ("p"):rep(125) } do
          peer:send("ping", data)
          local frame = peer:frame()
          assert.same({ 10, data }, { frame.opcode, frame.payload })
          assert.equal(side == "client", frame.masked)
        end
        moonlet.kill(g)
      end)

      it("are sent by ping, whose answers are not seen", function()
        assert.is_true(ws:ping())
        assert.is_true(ws:ping("x"))
        assert.same({ 9, "" }, { peer:frame().opcode, "" })
        assert.equal("x", peer:frame().payload)
        peer:send("pong", "")
        peer:send("pong", "x")
        peer:send("text", "t")
        assert.equal("t", ws:receive())
        assert.has_error(function() ws:ping(("x"):rep(126)) end,
                         "bad argument #1 to 'ping' (too long)")
        assert.has_error(function() ws:ping(1) end)
      end)

      it("are answered between the fragments of a long message", function()
        local g = moonlet.spawn(ws.send, ws, LONG)
        local reader = moonlet.spawn(ws.receive, ws)
        peer:send("ping", "1")
        peer:send("ping", "2") -- only the latest has to be answered
        support.turns()
        local answers, whole = {}, ""
        repeat
          local frame = peer:frame()
          if frame.opcode == 10 then
            answers[#answers + 1] = frame.payload
          else
            whole = whole .. frame.payload
          end
        until frame.opcode ~= 10 and frame.fin
        assert.same({ "2" }, answers)
        assert.equal(LONG, whole)
        assert.is_true(g:get())
        moonlet.kill(reader)
      end)

      it("do not hold up who receives, though the peer takes no answers", function()
        local reader = moonlet.spawn(function()
          for data in ws do
            if data == "end" then
              return data
            end
          end
        end)
        local beat = frames.make("ping", ("p"):rep(125), { mask = peer.mask })
        local many = beat:rep(1000)
        for _ = 1, 20 do
          assert(peer.stream:send(many))
        end
        peer:send("text", "end")
        assert.equal("end", reader:get())
        local frame = peer:frame()
        assert.equal(10, frame.opcode)
        peer:close()
      end)
    end)

    describe("with ping_interval", function()
      it("asks a silent peer, and takes any sign of life", function()
        new { ping_interval = 0.02, ping_timeout = 5 }
        local g = moonlet.spawn(ws.receive, ws)
        assert.equal(9, peer:frame().opcode)
        peer:send("pong", "")
        assert.equal(9, peer:frame().opcode)
        peer:send("text", "alive")
        assert.equal("alive", g:get())
      end)

      it("breaks the connection of a dead one", function()
        new { ping_interval = 0.01 }
        local code, reason = closed(ws:receive())
        assert.equal(1006, code)
        assert.equal("the peer does not answer pings", reason)
        assert.equal(9, peer:frame().opcode)
        assert.is_nil(peer:frame())
      end)

      it("keeps to the limit of receive all the same", function()
        new { ping_interval = 0.01, ping_timeout = 60 }
        assert.same({ nil, "timeout" }, { ws:receive(0.05) })
        assert.equal(9, peer:frame().opcode)
      end)
    end)

    describe("close", function()
      it("says why, and waits for the answer", function()
        local g = moonlet.spawn(ws.close, ws, 4000, "enough")
        assert.same({ 4000, "enough" }, { on_close_frame() })
        support.turns()
        assert.is_false(g:ready())
        assert.equal("closing", ws.state)
        assert.equal(1006, closed(ws:send("late")))
        peer:send("text", "dropped")
        peer:send("close", frames.close(4000, "enough"))
        assert.is_true(g:get())
        assert.equal("closed", ws.state)
        assert.is_nil(peer:frame())
        assert.same({ 4000, "enough" }, { closed(ws:receive()) })
        assert.is_true(ws:close())
      end)

      it("says 1000 if nothing is given", function()
        local g = moonlet.spawn(ws.close, ws)
        assert.same({ 1000, "" }, { on_close_frame() })
        peer:send("close", "")
        assert.is_true(g:get())
        assert.equal(1005, closed(ws:receive()))
      end)

      it("does not wait for ever", function()
        new { close_timeout = 0.02 }
        local code, reason = closed(ws:close())
        assert.equal(1006, code)
        assert.equal("the peer did not answer the close", reason)
        assert.equal(1000, (on_close_frame()))
        assert.is_nil(peer:frame())
      end)

      it("does not wait for ever for a peer that does not read, or that talks on", function()
        new { close_timeout = 0.05 }
        local sender = moonlet.spawn(ws.send, ws, LONG)
        support.turns()
        closed(ws:close())
        closed(sender:get())
        new { close_timeout = 0.05 }
        local talker = moonlet.spawn(function()
          repeat
            moonlet.sleep(0.001)
          until not peer.stream:send(frames.make("text", "x", { mask = peer.mask }))
        end)
        closed(ws:close())
        talker:join()
      end)

      it("notices that the connection breaks meanwhile", function()
        local g = moonlet.spawn(ws.close, ws)
        on_close_frame()
        peer:close()
        assert.equal(1006, closed(g:get()))
      end)

      it("lets a greenlet that is receiving end", function()
        local reader = moonlet.spawn(ws.receive, ws)
        support.turns()
        local g = moonlet.spawn(ws.close, ws, 1001)
        assert.equal(1001, (on_close_frame()))
        peer:send("text", "still read")
        assert.equal("still read", reader:get())
        reader = moonlet.spawn(ws.receive, ws)
        support.turns()
        peer:send("close", frames.close(1001))
        assert.is_true(g:get())
        assert.equal(1001, closed(reader:get()))
      end)

      it("reads itself when the one who received is killed", function()
        local reader = moonlet.spawn(ws.receive, ws)
        support.turns()
        local g = moonlet.spawn(ws.close, ws)
        on_close_frame()
        moonlet.kill(reader)
        support.turns()
        peer:send("close", frames.close(1000))
        assert.is_true(g:get())
      end)

      it("meets the peer's, while another greenlet is sending", function()
        local sender = moonlet.spawn(ws.send, ws, LONG)
        support.turns()
        local reader = moonlet.spawn(ws.receive, ws)
        local g = moonlet.spawn(ws.close, ws, 1001)
        support.turns()
        peer:send("close", frames.close(4000))
        assert.equal(4000, closed(reader:get()))
        local frame
        repeat
          frame = peer:frame()
        until frame.opcode == 8
        assert.same(frames.close(1001), frame.payload)
        assert.is_nil(peer:frame())
        assert.is_true(g:get())
        assert.equal(4000, closed(sender:get()))
      end)

      it("may be called by several greenlets", function()
        local first, second = moonlet.spawn(ws.close, ws, 1001), moonlet.spawn(ws.close, ws)
        assert.equal(1001, (on_close_frame()))
        support.turns()
        peer:send("close", frames.close(1001))
        assert.is_true(first:get())
        assert.is_true(second:get())
        assert.is_nil(peer:frame())
      end)

      it("closes the connection when it is killed", function()
        local g = moonlet.spawn(ws.close, ws)
        on_close_frame()
        moonlet.kill(g)
        g:join()
        assert.is_nil(peer:frame())
        assert.equal("closed", ws.state)
      end)

      it("refuses codes and reasons that cannot be sent", function()
        for _, code in ipairs { 0, 999, 1004, 1005, 1006, 1015, 2999, 5000, 1000.5, "1000" } do
          assert.has_error(function() ws:close(code) end,
                           "bad argument #1 to 'close' (no close code)")
        end
        assert.has_error(function() ws:close(1000, ("r"):rep(124)) end)
        assert.has_error(function() ws:close(1000, "\xFF") end)
        assert.has_error(function() ws:close(1000, 1) end)
        assert.equal("open", ws.state)
      end)
    end)

    describe("closed by the peer", function()
      it("answers with the same code, and tells code and reason", function()
        peer:send("close", frames.close(4321, "bye"))
        assert.same({ 4321, "bye" }, { closed(ws:receive()) })
        assert.same({ 4321, "" }, { on_close_frame() })
        assert.is_nil(peer:frame())
        assert.same({ 4321, "bye" }, { closed(ws:send("x")) })
        assert.is_true(ws:close())
      end)

      it("answers none with none", function()
        peer:send("close", "")
        assert.same({ 1005, "" }, { closed(ws:receive()) })
        assert.is_nil((on_close_frame()))
      end)

      it("stops a message that is being sent at the end of its fragment", function()
        local sender = moonlet.spawn(ws.send, ws, LONG)
        local waiting = moonlet.spawn(ws.send, ws, "waiting")
        support.turns()
        peer:send("close", frames.close(1001))
        assert.equal(1001, closed(ws:receive()))
        local frame
        repeat
          frame = peer:frame()
        until frame.opcode == 8
        assert.is_nil(peer:frame())
        assert.equal(1001, closed(sender:get()))
        assert.equal(1001, closed(waiting:get()))
      end)

      it("gives up on a peer that does not read after that", function()
        new { close_timeout = 0.02 }
        local sender = moonlet.spawn(ws.send, ws, LONG)
        support.turns()
        peer:send("close", frames.close(1000))
        assert.equal(1000, closed(ws:receive()))
        assert.equal(1000, closed(sender:get()))
        assert.is_true(ws:close())
      end)
    end)

    describe("when the peer makes a mistake", function()
      local MISTAKES = {
        { 1002, "reserved bit", function() peer:send("text", "x", { rsv = 2 }) end },
        { 1002, "opcode", function() peer:send(5, "x") end },
        { 1002, "fragmented ping", function() peer:send("ping", "x", { fin = false }) end },
        { 1002, "close code", function() peer:send("close", frames.close(1005)) end },
        { 1007, "no UTF-8", function() peer:send("text", "\xFF") end },
        { 1009, "too long", function() peer:send("text", "x", { length = 1 << 40 }) end },
      }
      for _, mistake in ipairs(MISTAKES) do
        it("tells it: " .. mistake[2], function()
          mistake[3]()
          local code, reason = closed(ws:receive())
          assert.equal(mistake[1], code)
          assert.same({ code, reason }, { on_close_frame() })
          assert.is_nil(peer:frame())
          assert.equal(code, closed(ws:send("x")))
          peer:close()
          assert.is_true(ws:close())
        end)
      end

      it("hears it out, so that it learns of it", function()
        peer:send("text", "x", { length = 1 << 30 })
        local talker = moonlet.spawn(function()
          for _ = 1, 200 do
            if not peer.stream:send(("x"):rep(10000)) then
              return "cut off"
            end
          end
        end)
        assert.equal(1009, closed(ws:receive()))
        assert.is_nil(talker:get())
        assert.equal(1009, (on_close_frame()))
        peer:close()
        assert.is_true(ws:close())
      end)

      it("does not hear it out for ever", function()
        new { close_timeout = 0.05 }
        peer:send("text", "x", { length = 1 << 30 })
        local talker = moonlet.spawn(function()
          while peer.stream:send("xxxxx") do
            moonlet.sleep(0.001)
          end
        end)
        assert.equal(1009, closed(ws:receive()))
        talker:join()
        assert.is_true(ws:close())
      end)
    end)

    it("notices a connection that ends at any byte of a frame", function()
      local bytes = frames.make("text", "fragment", { mask = peer.mask, fin = false }) ..
                      frames.make("ping", "", { mask = peer.mask }) ..
                      frames.make("continuation", ("x"):rep(130), { mask = peer.mask })
      for cut = 0, #bytes - 1 do
        new()
        peer.stream:send(bytes:sub(1, cut))
        peer:close()
        assert.equal(1006, closed(ws:receive()), cut)
      end
      for cut = 1, 3 do
        new()
        peer.stream:send(frames.make("close", frames.close(1000), { mask = peer.mask })
                               :sub(1, cut))
        peer:close()
        assert.equal(1006, closed(ws:receive()), cut)
      end
    end)

    describe("as a <close> variable", function()
      it("is closed with 1000", function()
        local g = moonlet.spawn(function()
          local _ <close> = ws
        end)
        assert.equal(1000, (on_close_frame()))
        peer:send("close", frames.close(1000))
        g:get()
        assert.equal("closed", ws.state)
      end)

      it("is closed at once by an error, with 1011, or a kill, with 1001", function()
        pcall(function()
          local _ <close> = ws
          error("oops")
        end)
        assert.equal("closed", ws.state)
        assert.same({ "8:\x03\xF3" }, read_all())
        new()
        local g = moonlet.spawn(function()
          local _ <close> = ws
          ws:receive()
        end)
        support.turns()
        moonlet.kill(g)
        g:join()
        assert.same({ "8:\x03\xE9" }, read_all())
      end)
    end)

    it("says what it is and in which state", function()
      assert.truthy(tostring(ws):find("^<WebSocket: " .. side .. ".*, open>$"))
      peer:send("close", frames.close(1000))
      ws:receive()
      assert.truthy(tostring(ws):find(", closed %(1000%)>$"))
    end)
  end)
end

describe("two WebSockets", function()
  for _, compress in ipairs { false, true } do
    it("talk in both directions at once, compressed: " .. tostring(compress), function()
      local a, b = ends.pair({ compress = compress }, { compress = compress })
      local function talk(from, to, salt)
        local sender = moonlet.spawn(function()
          for i = 1, 60 do
            assert(from:send((salt .. i .. " "):rep(i * 200), i % 2 == 0 and "text" or "binary"))
          end
        end)
        local receiver = moonlet.spawn(function()
          for i = 1, 60 do
            local data, kind = to:receive()
            assert.equal((salt .. i .. " "):rep(i * 200), data)
            assert.equal(i % 2 == 0 and "text" or "binary", kind)
          end
        end)
        return sender, receiver
      end
      local s1, r1 = talk(a, b, "there")
      local s2, r2 = talk(b, a, "back")
      moonlet.joinall({ s1, r1, s2, r2 }, nil, true)
      local g = moonlet.spawn(b.receive, b)
      assert.is_true(a:close(1000, "done"))
      assert.same({ 1000, "done" }, { closed(g:get()) })
    end)
  end

  it("may both close at the same time", function()
    local a, b = ends.pair()
    local first, second = moonlet.spawn(a.close, a, 1001), moonlet.spawn(b.close, b, 4000)
    assert.is_true(first:get())
    assert.is_true(second:get())
    assert.equal(4000, closed(a:receive()))
    assert.equal(1001, closed(b:receive()))
  end)

  it("hold little memory for a peer that does not read", function()
    local a, b = ends.pair({ max_queue = 100000 })
    local greenlets, full = {}, 0
    for i = 1, 200 do
      greenlets[i] = moonlet.spawn(function()
        local _, word = a:send(("x"):rep(90000))
        full = full + (word == "full" and 1 or 0)
      end)
    end
    support.turns()
    assert.truthy(full > 150, full)
    local reader = moonlet.spawn(function()
      for _ in b do
      end
    end)
    moonlet.joinall(greenlets)
    assert.is_true(a:close())
    reader:join()
  end)
end)
