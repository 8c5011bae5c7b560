-- The codec alone: every rule of RFC 6455, sections 5 to 7, at both ends; permessage-deflate.

local core = require "moonlet.wslay.core"
local frames = require "support.frames"

local KEY = "\x12\xAB\x00\xF7"
local LIMIT = 1 << 20

local ends = {
  server = { client = false, opts = { mask = KEY } },
  client = { client = true, opts = {} },
}

-- A frame as the peer of that end sends it.
local function frame(side, opcode, payload, opts)
  local all = { mask = side.opts.mask }
  for name, value in pairs(opts or {}) do
    all[name] = value
  end
  return frames.make(opcode, payload, all)
end

local function new(side, compression, limit)
  return core.codec(side.client, limit or LIMIT, limit or LIMIT, compression)
end

-- All events of some bytes, as strings.
local function read(codec, ...)
  local list = {}
  for _, bytes in ipairs { ... } do
    codec:feed(bytes)
    for kind, data, reason in codec.next, codec do
      list[#list + 1] = ("%s:%s%s"):format(kind, data, reason and ":" .. reason or "")
    end
  end
  return list
end

-- Each byte by itself.
local function spelled(bytes)
  local list = {}
  for i = 1, #bytes do
    list[i] = bytes:sub(i, i)
  end
  return table.unpack(list)
end

local function write(codec, kind, data)
  local list = {}
  local bytes, more = codec:encode(kind, data)
  list[1] = bytes
  while more do
    bytes, more = codec:continue()
    list[#list + 1] = bytes
  end
  return list
end

local COMPRESSION = { in_bits = 15, out_bits = 15, level = 6, memory = 8, threshold = 0 }

local function compression(changes)
  local all = {}
  for name, value in pairs(COMPRESSION) do
    all[name] = value
  end
  for name, value in pairs(changes or {}) do
    all[name] = value
  end
  return all
end

for name, side in pairs(ends) do
  describe("the codec of a " .. name, function()
    local codec

    before_each(function()
      codec = new(side)
    end)

    local function fails(code, ...)
      local events = read(codec, ...)
      assert.truthy(events[#events] and events[#events]:match("^error:" .. code .. ":"),
                    table.concat(events, " "))
      assert.same({}, read(codec, frame(side, "text", "ignored")))
    end

    it("reads messages of every form of length", function()
      for _, length in ipairs { 0, 1, 125, 126, 127, 128, 4095, 4096, 65535, 65536, 70000 } do
        local data = ("x"):rep(length)
        assert.same({ "text:" .. data }, read(codec, frame(side, "text", data)), length)
        assert.same({ "binary:" .. data }, read(codec, frame(side, "binary", data)), length)
      end
    end)

    it("reads what comes byte by byte", function()
      local bytes = frame(side, "text", "Grüße") .. frame(side, "ping", "p") ..
                      frame(side, "binary", ("\0\xFF"):rep(100)) .. frame(side, "pong", "")
      assert.same({ "text:Grüße", "ping:p", "binary:" .. ("\0\xFF"):rep(100), "pong:" },
                  read(codec, spelled(bytes)))
    end)

    it("reads many messages at once", function()
      local bytes, expected = {}, {}
      for i = 1, 1000 do
        bytes[i] = frame(side, "text", tostring(i))
        expected[i] = "text:" .. i
      end
      assert.same(expected, read(codec, table.concat(bytes)))
    end)

    it("joins fragments, also empty ones", function()
      assert.same({ "text:abc" }, read(codec, frame(side, "text", "a", { fin = false }),
                                       frame(side, "continuation", "b", { fin = false }),
                                       frame(side, "continuation", "", { fin = false }),
                                       frame(side, "continuation", "c")))
      assert.same({ "binary:" }, read(codec, frame(side, "binary", "", { fin = false }),
                                      frame(side, "continuation", "")))
      assert.same({ "binary:x" }, read(codec, frame(side, "binary", "", { fin = false }),
                                       frame(side, "continuation", "x")))
    end)

    it("gives control frames that come between fragments at once", function()
      assert.same({ "ping:1", "pong:2", "text:ab" },
                  read(codec, frame(side, "text", "a", { fin = false }) .. frame(side, "ping", "1"),
                       frame(side, "pong", "2") .. frame(side, "continuation", "b")))
    end)

    it("takes control frames of up to 125 bytes", function()
      local data = ("z"):rep(125)
      assert.same({ "ping:" .. data, "pong:" .. data, "ping:" },
                  read(codec, spelled(frame(side, "ping", data) .. frame(side, "pong", data) ..
                                        frame(side, "ping", ""))))
    end)

    it("refuses longer control frames", function()
      fails(1002, frame(side, "ping", ("z"):rep(126)))
    end)

    for _, kind in ipairs { "ping", "pong", "close" } do
      it("refuses a fragmented " .. kind, function()
        fails(1002, frame(side, kind, "", { fin = false }))
      end)
    end

    for _, opcode in ipairs { 3, 4, 5, 6, 7, 11, 12, 13, 14, 15 } do
      it("refuses the reserved opcode " .. opcode, function()
        fails(1002, frame(side, opcode, "x"))
      end)
    end

    it("refuses reserved bits in every kind of frame", function()
      for rsv = 1, 7 do
        for _, kind in ipairs { "text", "binary", "close", "ping", "pong" } do
          codec = new(side)
          fails(1002, frame(side, kind, "", { rsv = rsv }))
        end
        codec = new(side)
        fails(1002, frame(side, "text", "a", { fin = false }),
              frame(side, "continuation", "b", { rsv = rsv }))
      end
    end)

    it("refuses frames that are masked as its own are", function()
      for _, kind in ipairs { "text", "binary", "ping", "close" } do
        codec = new(side)
        fails(1002, frames.make(kind, kind == "close" and frames.close(1000) or "data",
                                { mask = side.client and KEY or nil }))
      end
    end)

    it("refuses the continuation of no message", function()
      fails(1002, frame(side, "continuation", "a"))
      codec = new(side)
      fails(1002, frame(side, "text", "whole") .. frame(side, "continuation", "a"))
    end)

    it("refuses a message within another", function()
      fails(1002, frame(side, "text", "a", { fin = false }), frame(side, "text", "b"))
      codec = new(side)
      fails(1002, frame(side, "binary", "a", { fin = false }),
            frame(side, "text", "b", { fin = false }))
    end)

    it("refuses lengths in a longer form than need be, and of 64 bits", function()
      fails(1002, frame(side, "text", "abc", { form = 16 }))
      codec = new(side)
      fails(1002, frame(side, "text", ("x"):rep(200), { form = 64 }))
      codec = new(side)
      fails(1002, frame(side, "text", "x", { form = 64, length = math.mininteger }))
    end)

    describe("with text", function()
      local VALID = {
        "", "ASCII", "\0", "\u{7F}\u{80}\u{7FF}\u{800}\u{FFFF}\u{10000}\u{10FFFF}",
        "\u{D7FF}\u{E000}\u{FFFD}", "κόσμε", ("ä"):rep(5000), ("abcdefg€"):rep(1000),
      }
      local INVALID = {
        "\x80", "\xBF", "\xC0\x80", "\xC1\xBF", "\xC2", "\xC2\x41", "\xE0\x80\x80", "\xE0\x9F\xBF",
        "\xE2\x82", "\xED\xA0\x80", "\xED\xBF\xBF", "\xF0\x80\x80\x80", "\xF0\x8F\xBF\xBF",
        "\xF0\x90\x80", "\xF4\x90\x80\x80", "\xF5\x80\x80\x80", "\xF8\x88\x80\x80\x80", "\xFE",
        "\xFF", "ok\xCEthen", ("x"):rep(100) .. "\xFF" .. ("y"):rep(100), "κόσμε\xED\xA0\x80edited",
      }

      it("takes UTF-8, cut anywhere", function()
        for _, text in ipairs(VALID) do
          assert.same({ "text:" .. text }, read(codec, frame(side, "text", text)))
          local middle = #text // 2
          assert.same({ "text:" .. text },
                      read(codec, frame(side, "text", text:sub(1, middle), { fin = false }),
                           frame(side, "continuation", text:sub(middle + 1))))
        end
        local text = VALID[4]
        local parts = { frame(side, "text", "", { fin = false }) }
        for i = 1, #text do
          parts[#parts + 1] = frame(side, "continuation", text:sub(i, i), { fin = i == #text })
        end
        assert.same({ "text:" .. text }, read(codec, table.unpack(parts)))
      end)

      it("refuses everything else with 1007, cut anywhere", function()
        for _, text in ipairs(INVALID) do
          codec = new(side)
          fails(1007, frame(side, "text", text))
          for cut = 0, math.min(#text, 10) do
            codec = new(side)
            fails(1007, frame(side, "text", text:sub(1, cut), { fin = false }),
                  frame(side, "continuation", text:sub(cut + 1)))
          end
        end
      end)

      it("refuses it before the message is complete", function()
        fails(1007, frame(side, "text", "\xC0", { length = 1000 }))
        codec = new(side)
        fails(1007, frame(side, "text", "\xF4\x90", { fin = false }))
      end)

      it("says itself what is UTF-8", function()
        for _, text in ipairs(VALID) do
          assert.is_true(core.is_utf8(text))
        end
        for _, text in ipairs(INVALID) do
          assert.is_false(core.is_utf8(text))
        end
      end)
    end)

    describe("at the close", function()
      it("gives code and reason, and ignores what follows", function()
        assert.same({ "close:1000:bye" },
                    read(codec, frame(side, "close", frames.close(1000, "bye")) ..
                           frame(side, "text", "late")))
        assert.same({}, read(codec, frame(side, "text", "later")))
      end)

      it("calls an empty one 1005", function()
        assert.same({ "close:1005:" }, read(codec, frame(side, "close", "")))
      end)

      it("takes a reason of up to 123 bytes", function()
        local reason = ("r"):rep(123)
        assert.same({ "close:4000:" .. reason },
                    read(codec, spelled(frame(side, "close", frames.close(4000, reason)))))
      end)

      it("comes in the middle of a message, too", function()
        assert.same({ "close:1001:" }, read(codec, frame(side, "text", "a", { fin = false }),
                                            frame(side, "close", frames.close(1001))))
      end)

      it("takes the codes an endpoint may send, and no other", function()
        local allowed = {}
        for code = 0, 5001 do
          codec = new(side)
          local event = read(codec, frame(side, "close", frames.close(code)))[1]
          if event == ("close:%d:"):format(code) then
            allowed[#allowed + 1] = code
            assert.is_true(core.is_close_code(code))
          else
            assert.equal("error:1002:close code not allowed", event)
            assert.is_false(core.is_close_code(code))
          end
        end
        local expected = { 1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014 }
        for code = 3000, 4999 do
          expected[#expected + 1] = code
        end
        assert.same(expected, allowed)
      end)

      it("refuses half a code", function()
        fails(1002, frame(side, "close", "\x03"))
      end)

      it("refuses a reason that is not UTF-8", function()
        fails(1007, frame(side, "close", frames.close(1000, "\xC3")))
      end)
    end)

    describe("with limits", function()
      it("takes what just fits", function()
        codec = core.codec(side.client, 100, 150)
        assert.same({ "text:" .. ("x"):rep(100) }, read(codec, frame(side, "text", ("x"):rep(100))))
        assert.same({ "text:" .. ("x"):rep(150) },
                    read(codec, frame(side, "text", ("x"):rep(100), { fin = false }),
                         frame(side, "continuation", ("x"):rep(50))))
      end)

      it("refuses a longer frame with 1009 at its first byte", function()
        codec = core.codec(side.client, 100, 150)
        fails(1009, frame(side, "text", "x", { length = 101 }))
        codec = core.codec(side.client, 100, 150)
        fails(1009, frame(side, "binary", "x", { length = math.maxinteger }))
      end)

      it("refuses a longer message with 1009", function()
        codec = core.codec(side.client, 100, 150)
        fails(1009, frame(side, "text", ("x"):rep(100), { fin = false }),
              frame(side, "continuation", "x", { length = 51 }))
        codec = core.codec(side.client, math.maxinteger, 150)
        fails(1009, frame(side, "binary", ("x"):rep(100), { fin = false }),
              frame(side, "continuation", "x", { length = math.maxinteger }))
      end)
    end)

    describe("writing", function()
      it("makes whole frames, masked by clients only", function()
        for _, length in ipairs { 0, 1, 125, 126, 65535, 65536 } do
          local data = ("d"):rep(length)
          local list = write(codec, "binary", data)
          assert.equal(1, #list)
          assert.same({ { fin = true, rsv = 0, opcode = 2, masked = side.client, payload = data } },
                      frames.parse_all(list[1]))
        end
        assert.equal(1, frames.parse(write(codec, "text", "t")[1]).opcode)
      end)

      it("makes fragments of long messages, with room for control frames between", function()
        local data = ("0123456789"):rep(20000)
        local bytes, more = codec:encode("text", data)
        local list = frames.parse_all(bytes)
        while more do
          assert.equal("beat", frames.parse(codec:control("ping", "beat")).payload)
          bytes, more = codec:continue()
          list[#list + 1] = frames.parse(bytes)
        end
        assert.equal(4, #list)
        local whole = ""
        for i, part in ipairs(list) do
          assert.equal(i == 1 and 1 or 0, part.opcode)
          assert.equal(i == #list, part.fin)
          whole = whole .. part.payload
        end
        assert.equal(data, whole)
      end)

      it("masks each frame with a key of its own", function()
        local seen, count = {}, 0
        for _ = 1, 300 do
          local bytes = write(codec, "binary", "\0\0\0\0")[1]
          seen[bytes] = true
        end
        for _ in pairs(seen) do
          count = count + 1
        end
        assert.truthy(side.client and count > 290 or count == 1, count)
      end)

      it("makes control frames", function()
        local function made(...)
          local list = frames.parse_all(codec:control(...))
          assert.equal(1, #list)
          assert.is_true(list[1].fin)
          assert.equal(side.client, list[1].masked)
          return list[1].opcode, list[1].payload
        end
        assert.same({ 9, "hi" }, { made("ping", "hi") })
        assert.same({ 10, ("p"):rep(125) }, { made("pong", ("p"):rep(125)) })
        assert.same({ 8, "\x03\xE8bye" }, { made("close", 1000, "bye") })
        assert.same({ 8, "" }, { made("close") })
      end)

      it("refuses what cannot be sent", function()
        assert.has_error(function() codec:control("ping", ("p"):rep(126)) end)
        assert.has_error(function() codec:control("close", 1005) end)
        assert.has_error(function() codec:control("close", 1000, ("r"):rep(124)) end)
        assert.has_error(function() codec:control("text", "x") end)
        assert.has_error(function() codec:encode("ping", "x") end)
        assert.has_error(function() codec:continue() end)
        codec:encode("text", ("x"):rep(100000))
        assert.has_error(function() codec:encode("text", "another") end)
      end)
    end)

    describe("with compression", function()
      local peer

      local function pair(changes, peer_changes, limit)
        codec = new(side, compression(changes), limit)
        peer = core.codec(not side.client, LIMIT * 8, LIMIT * 8, compression(peer_changes))
      end

      it("carries messages of every size in both directions", function()
        pair()
        for _, length in ipairs { 0, 1, 5, 126, 1000, 65536, 200000 } do
          local data = ("Moonlet "):rep(length // 8) .. ("x"):rep(length % 8)
          assert.same({ "text:" .. data }, read(codec, table.unpack(write(peer, "text", data))))
          assert.same({ "binary:" .. data },
                      read(peer, table.unpack(write(codec, "binary", data))))
        end
      end)

      it("carries noise, which deflate makes longer, in fragments", function()
        pair()
        math.randomseed(7)
        local parts = {}
        for i = 1, 40000 do
          parts[i] = string.pack("<I8", math.random(0))
        end
        local data = table.concat(parts)
        local list = write(codec, "binary", data)
        assert.truthy(#list > 4)
        for i, bytes in ipairs(list) do
          local part = frames.parse_all(bytes)
          assert.equal(1, #part)
          assert.equal(i == 1 and 4 or 0, part[1].rsv)
          assert.truthy(#part[1].payload <= 65536)
        end
        assert.same({ "binary:" .. data }, read(peer, table.unpack(list)))
        assert.same({ "text:short" }, read(peer, table.unpack(write(codec, "text", "short"))))
      end)

      it("takes the context over from one message to the next", function()
        pair()
        local data = "a sentence that is said twice, a sentence that is said twice"
        local first = #write(codec, "text", data)[1]
        local second = #write(codec, "text", data)[1]
        assert.truthy(second < first / 2, first .. " " .. second)
      end)

      it("takes none over where that was agreed on", function()
        pair({ out_reset = true, in_reset = true }, { out_reset = true, in_reset = true })
        local data = "a sentence that is said twice, a sentence that is said twice"
        local first, second = write(codec, "text", data)[1], write(codec, "text", data)[1]
        assert.equal(frames.parse(first).payload, frames.parse(second).payload)
        assert.same({ "text:" .. data, "text:" .. data }, read(peer, first, second))
        assert.same({ "text:" .. data, "text:" .. data },
                    read(codec, write(peer, "text", data)[1], write(peer, "text", data)[1]))
      end)

      it("keeps to smaller windows", function()
        for bits = 8, 15 do
          pair({ out_bits = bits, in_bits = bits }, { out_bits = bits, in_bits = bits })
          for i = 1, 20 do
            local data = ("%d, %d, "):format(i, i * 7):rep(500)
            assert.same({ "text:" .. data }, read(peer, table.unpack(write(codec, "text", data))))
            assert.same({ "text:" .. data }, read(codec, table.unpack(write(peer, "text", data))))
          end
        end
      end)

      it("leaves short messages alone, if so told", function()
        pair({ threshold = 10 })
        assert.equal(0, frames.parse(write(codec, "text", "short")[1]).rsv)
        assert.equal(4, frames.parse(write(codec, "text", "0123456789")[1]).rsv)
      end)

      it("reads the examples of RFC 7692", function()
        pair()
        local hello = "\xF2\x48\xCD\xC9\xC9\x07\x00"
        local rsv = { rsv = 4 }
        assert.same({ "text:Hello" }, read(codec, frame(side, "text", hello, rsv)))
        assert.same({ "text:Hello" },
                    read(codec, frame(side, "text", hello:sub(1, 3), { rsv = 4, fin = false }),
                         frame(side, "continuation", hello:sub(4))))
        assert.same({ "text:Hello" },
                    read(codec, frame(side, "text", "\xF2\x00\x11\x00\x00", rsv)))
        assert.same({ "text:Hello" },
                    read(codec, frame(side, "text", "\x00\x05\x00\xFA\xFFHello\x00", rsv)))
        assert.same({ "text:Hello" },
                    read(codec, frame(side, "text", "\xF3\x48\xCD\xC9\xC9\x07\x00\x00", rsv)))
        assert.same({ "text:Hello" },
                    read(codec, frame(side, "text", "\xF2\x00\x11\x00\x00", rsv)))
        assert.same({ "text:Hello" },
                    read(codec, frame(side, "text", "\xF2\x48\x05\x00\x00\x00\xFF\xFF\xCA\xC9" ..
                                        "\xC9\x07\x00", rsv)))
      end)

      it("reads plain messages between compressed ones", function()
        pair()
        assert.same({ "text:plain", "text:packed", "text:plain" },
                    read(codec, frame(side, "text", "plain"),
                         write(peer, "text", "packed")[1], frame(side, "text", "plain")))
      end)

      it("refuses the compressed bit where it does not belong", function()
        for _, kind in ipairs { "ping", "pong", "close" } do
          pair()
          fails(1002, frame(side, kind, "", { rsv = 4 }))
        end
        pair()
        fails(1002, frame(side, "text", "a", { fin = false }),
              frame(side, "continuation", "b", { rsv = 4 }))
        for rsv = 1, 3 do
          pair()
          fails(1002, frame(side, "text", "a", { rsv = rsv }))
        end
      end)

      it("refuses what does not inflate", function()
        pair()
        fails(1007, frame(side, "text", "\xFF\xFF\xFF\xFF", { rsv = 4 }))
      end)

      it("checks what was inflated for UTF-8", function()
        pair()
        fails(1007, table.unpack(write(peer, "text", "\xC3\x28")))
        pair()
        fails(1007, table.unpack(write(peer, "text", "cut \xC3")))
      end)

      it("bounds what a message may inflate to", function()
        pair(nil, nil, 1000)
        local fitting = ("x"):rep(1000)
        assert.same({ "text:" .. fitting }, read(codec, write(peer, "text", fitting)[1]))
        fails(1009, write(peer, "text", ("x"):rep(1001))[1])
        pair(nil, nil, 100000)
        local bomb = write(peer, "binary", ("\0"):rep(LIMIT * 7))
        collectgarbage()
        fails(1009, table.unpack(bomb))
      end)
    end)

    it("gives the same events however the bytes are cut", function()
      math.randomseed(20261126)
      for _ = 1, 60 do
        codec = new(side, compression())
        local peer = core.codec(not side.client, LIMIT, LIMIT, compression({ threshold = 50 }))
        local parts, expected = {}, {}
        for _ = 1, math.random(1, 12) do
          local kind = ({ "text", "binary", "ping", "pong" })[math.random(4)]
          local data = ("%d"):format(math.random(0)):rep(math.random(0, 6))
          if kind == "text" and math.random(4) == 1 then
            data = data:rep(math.random(900))
          end
          if kind == "text" or kind == "binary" then
            parts[#parts + 1] = table.concat(write(peer, kind, data))
          else
            data = data:sub(1, 125)
            parts[#parts + 1] = peer:control(kind, data)
          end
          expected[#expected + 1] = kind .. ":" .. data
        end
        parts[#parts + 1] = peer:control("close", 1000, "done")
        expected[#expected + 1] = "close:1000:done"
        local bytes, cut, at = table.concat(parts), {}, 1
        while at <= #bytes do
          local size = math.random(math.random(2) == 1 and 3 or 9000)
          cut[#cut + 1] = bytes:sub(at, at + size - 1)
          at = at + size
        end
        assert.same(expected, read(codec, table.unpack(cut)))
      end
    end)

    it("ends well in the middle of anything", function()
      local bytes = frame(side, "text", "abc", { fin = false }) .. frame(side, "continuation", "d")
      for cut = 0, #bytes do
        read(new(side), bytes:sub(1, cut))
        read(new(side, compression()), bytes:sub(1, cut))
      end
      collectgarbage()
    end)
  end)
end

describe("the codec's handshake", function()
  it("answers the key of RFC 6455", function()
    assert.equal("s3pPLMBiTxaQ9kYGzzhZRbK+xOo=", core.accept("dGhlIHNhbXBsZSBub25jZQ=="))
  end)

  it("makes keys that are all different", function()
    local seen = {}
    for _ = 1, 100 do
      local key = core.key()
      assert.is_true(core.is_key(key))
      assert.is_nil(seen[key])
      seen[key] = true
    end
  end)

  it("knows 16 bytes in base64", function()
    assert.is_true(core.is_key("dGhlIHNhbXBsZSBub25jZQ=="))
    for _, key in ipairs { "", "dGhlIHNhbXBsZSBub25jZQ=", "dGhlIHNhbXBsZSBub25jZQ===",
                           "dGhlIHNhbXBsZSBub25jZTE=", "dGhlIHNhbXBsZSBub25jZTEy",
                           "dGhlIHNhbXBsZSBub25j!Q==", "dGhlIHNhbXBsZSBub25jZ Q=",
                           "dGhl\0HNhbXBsZSBub25jZQ==" } do
      assert.is_false(core.is_key(key), key)
    end
  end)

  it("refuses options that make no sense", function()
    assert.has_error(function() core.codec(true, 0, 1) end)
    assert.has_error(function() core.codec(true, 1, -1) end)
    assert.has_error(function() core.codec(true, 1, 1, compression { in_bits = 7 }) end)
    assert.has_error(function() core.codec(true, 1, 1, compression { level = 10 }) end)
  end)
end)
