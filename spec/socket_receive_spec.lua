local moonlet = require "moonlet"
local places = require "support.places"
local socket = require "moonlet.socket"
local sockets = require "support.sockets"
local support = require "support"

-- What LuaSocket's receive does with all that a peer ever sends: the model below reads the same
-- text with the same calls.
local Model = {}
Model.__index = Model

function Model:line()
  local text, rest = self.text:match("^([^\n]*)\n(.*)$")
  if text then
    self.text = rest
    return (text:gsub("\r", ""))
  end
  return self:ended((self.text:gsub("\r", "")))
end

function Model:ended(partial)
  self.text = ""
  return nil, "closed", partial
end

function Model:all()
  if self.text == "" then
    return self:ended("")
  end
  local text = self.text
  self.text = ""
  return text
end

function Model:bytes(count)
  if self.text == "" or #self.text < count then
    return self:ended(self.text)
  end
  local text = self.text:sub(1, count)
  self.text = self.text:sub(count + 1)
  return text
end

function Model:receive(pattern, prefix)
  local wanted = pattern
  if math.type(pattern) then
    wanted = pattern - #prefix
    if prefix ~= "" and wanted <= 0 then
      return prefix
    end
  end
  local data, message, partial
  if pattern == "*l" then
    data, message, partial = self:line()
  elseif pattern == "*a" then
    data, message, partial = self:all()
  else
    data, message, partial = self:bytes(wanted)
  end
  return data and prefix .. data, message, partial and prefix .. partial
end

-- The memory of this process, bytes.
local function resident()
  local file <close> = assert(io.open("/proc/self/statm"))
  local _, pages = file:read("n", "n")
  return pages * 4096
end

describe("moonlet.socket, receive:", function()
  local near, far

  after_each(function()
    near:close()
    far:close()
  end)

  sockets.watch_descriptors(before_each, after_each)

  before_each(function()
    near, far = sockets.pair()
  end)

  describe("a line", function()
    it("is what is asked for without a pattern, with '*l', 'l' and '*line'", function()
      assert(far:send("1\n2\n3\n4\n"))
      assert.equal("1", near:receive())
      assert.equal("2", near:receive("*l"))
      assert.equal("3", near:receive("l"))
      assert.equal("4", near:receive("*line"))
    end)

    it("comes without its end, and without any CR", function()
      assert(far:send("dos\r\n\n\r\na\rb\r\r\nc\r"))
      assert.equal("dos", near:receive())
      assert.equal("", near:receive())
      assert.equal("", near:receive())
      assert.equal("ab", near:receive())
      far:close()
      assert.same({ nil, "closed", "c" }, { near:receive() })
    end)

    it("may hold NULs", function()
      assert(far:send("a\0b\n\0\n"))
      assert.equal("a\0b", near:receive())
      assert.equal("\0", near:receive())
    end)

    it("is waited for as long as it takes", function()
      moonlet.spawn(function()
        for c in ("slow\r\nx"):gmatch(".") do
          far:send(c)
          moonlet.sleep(0.002)
        end
      end)
      assert.equal("slow", near:receive())
      assert.equal("x", near:receive(1))
    end)

    it("of gigantic length arrives whole", function()
      local line = ("0123456789"):rep(300000)
      local sender = moonlet.spawn(function()
        return far:send(line .. "\nnext\n")
      end)
      assert.equal(line, near:receive())
      assert.equal("next", near:receive())
      assert.equal(#line + 6, sender:get())
    end)
  end)

  describe("a number of bytes", function()
    it("is waited for, and what comes beyond it kept", function()
      moonlet.spawn(function()
        far:send("ab")
        moonlet.sleep(0.005)
        far:send("cdefg")
      end)
      assert.equal("abcde", near:receive(5))
      assert.equal("fg", near:receive(2))
    end)

    it("may be in a string, and loses its fraction, as LuaSocket's", function()
      assert(far:send("abcdef"))
      assert.equal("ab", near:receive("2"))
      assert.equal("c", near:receive(1.9))
      assert.equal("de", near:receive(2.0))
    end)

    it("of 0 waits until there is something, and takes nothing", function()
      near:settimeout(0.01)
      assert.same({ nil, "timeout", "" }, { near:receive(0) })
      assert(far:send("x"))
      assert.equal("", near:receive(0))
      assert.equal("", near:receive(0))
      assert.equal("x", near:receive(1))
      far:close()
      assert.same({ nil, "closed", "" }, { near:receive(0) })
    end)

    it("may be many megabytes", function()
      local data = ("0123456789abcdef"):rep(1 << 20)
      local sender = moonlet.spawn(function()
        return far:send(data)
      end)
      assert.is_true(data == near:receive(#data))
      assert.equal(#data, sender:get())
      assert.is_false(near:dirty())
    end)

    it("that never come returns what has come", function()
      assert(far:send("abc"))
      far:close()
      assert.same({ nil, "closed", "abc" }, { near:receive(1 << 40) })
      assert.same({ nil, "closed", "" }, { near:receive(1) })
    end)
  end)

  describe("'*a'", function()
    it("is all that comes until the peer ends", function()
      moonlet.spawn(function()
        for i = 1, 5 do
          far:send(("%d\n"):format(i))
          moonlet.sleep(0.001)
        end
        far:shutdown("send")
      end)
      assert.equal("1\n2\n3\n4\n5\n", near:receive("*a"))
      assert.same({ nil, "closed", "" }, { near:receive("*a") })
    end)

    it("is also 'a' and '*all', and 'closed' if nothing comes", function()
      assert(far:send("text"))
      far:close()
      assert.equal("text", near:receive("a"))
      assert.same({ nil, "closed", "" }, { near:receive("*all") })
    end)

    it("of a peer that sends much lets the others run", function()
      local ticks, done = 0, false
      local ticker = moonlet.spawn(function()
        while not done do
          ticks = ticks + 1
          moonlet.sleep(0)
        end
      end)
      moonlet.spawn(function()
        far:send(("x"):rep(16 << 20))
        far:close()
      end)
      assert.equal(16 << 20, #near:receive("*a"))
      done = true
      ticker:join()
      assert.is_true(ticks > 5)
    end)
  end)

  describe("recv", function()
    it("returns what there is, and waits only if there is nothing", function()
      local reader = sockets.start(near.recv, near)
      assert.is_false(reader:ready())
      assert(far:send("some"))
      assert.equal("some", reader:get())
      assert(far:send("one\ntwo\nthree"))
      assert.equal("one", near:receive())
      assert.equal("tw", near:recv(2))
      assert.equal("o\nthree", near:recv())
      assert.equal(17, (near:getstats()))
    end)

    it("ends with the connection, the time, and the socket", function()
      near:settimeout(0.005)
      assert.same({ nil, "timeout" }, { near:recv() })
      near:settimeout()
      local reader = sockets.start(near.recv, near)
      far:close()
      assert.same({ nil, "closed" }, { reader:get() })
      near:close()
      assert.same({ nil, "closed" }, { near:recv() })
      near, far = sockets.pair()
      reader = sockets.start(near.recv, near)
      reader:kill()
      reader = sockets.start(near.recv, near)
      near:close()
      assert.same({ nil, "closed" }, { reader:get() })
    end)

    it("refuses what is no size", function()
      for _, size in ipairs { 0, -1, "x", 1.5 } do
        assert.matches("bad argument #1 to 'recv'", support.error_of(function()
          near:recv(size)
        end))
      end
    end)
  end)

  describe("the prefix", function()
    it("stands before what is returned", function()
      assert(far:send("one\nrest"))
      assert.equal("> one", near:receive("*l", "> "))
      far:close()
      assert.equal("> rest", near:receive("*a", "> "))
      assert.same({ nil, "closed", "> " }, { near:receive("*a", "> ") })
    end)

    it("counts towards a number of bytes, so that a partial result can be given back", function()
      near:settimeout(0.01)
      assert(far:send("abc"))
      local data, message, partial = near:receive(6)
      assert.same({ nil, "timeout", "abc" }, { data, message, partial })
      assert(far:send("defgh"))
      assert.equal("abcdef", near:receive(6, partial))
      assert.equal("abc", near:receive(2, "abc"))
      assert.equal("abc", near:receive(0, "abc"))
      assert.equal("gh", near:receive(2, ""))
    end)

    it("may be a number, and nothing else", function()
      assert(far:send("x"))
      assert.equal("12x", near:receive(3, 12))
      for _, pattern in ipairs { 1, "*l", "*a" } do
        assert.matches("bad argument #2 to 'receive'", support.error_of(function()
          near:receive(pattern, {})
        end))
      end
    end)
  end)

  it("refuses other patterns", function()
    for _, pattern in ipairs { "x", "*x", "", "*", -1, -0.5, 0 / 0, math.huge, {}, true } do
      assert.matches("bad argument #1 to 'receive'", support.error_of(function()
        near:receive(pattern)
      end))
    end
  end)

  describe("the timeout", function()
    it("returns what has come, and leaves nothing of it behind", function()
      near:settimeout(0.01)
      for _, pattern in ipairs { "*l", "*a", 100 } do
        assert(far:send("part"))
        assert.same({ nil, "timeout", "part" }, { near:receive(pattern) })
        assert.same({ nil, "timeout", "" }, { near:receive(pattern) })
      end
    end)

    it("of 0 takes what is there", function()
      near:settimeout(0)
      assert.same({ nil, "timeout", "" }, { near:receive() })
      assert(far:send("line\nmore"))
      support.eventually(function()
        return #socket.select({ near }, nil, 1) == 1
      end)
      assert.equal("line", near:receive())
      assert.same({ nil, "timeout", "more" }, { near:receive() })
    end)

    it("may strike between CR and LF", function()
      near:settimeout(0.01)
      assert(far:send("line\r"))
      local _, message, partial = near:receive()
      assert.same({ "timeout", "line" }, { message, partial })
      assert(far:send("\n"))
      assert.equal("line", near:receive("*l", partial))
    end)
  end)

  describe("a greenlet that is killed or timed out", function()
    for _, pattern in ipairs { "*l", "*a", 100 } do
      it("loses nothing of what has come for " .. pattern, function()
        local reader = sockets.start(near.receive, near, pattern)
        assert(far:send("first "))
        support.eventually(function() return near:dirty() end)
        reader:kill()
        assert(far:send("second "))
        local ok = moonlet.with_timeout(0.01, near.receive, near, pattern)
        assert.is_nil(ok)
        assert(far:send("third\n"))
        far:close()
        assert.equal("first second third\n", near:receive("*a"))
      end)
    end

    it("leaves the socket to the next reader at once", function()
      local reader = sockets.start(near.receive, near)
      reader:kill()
      assert(far:send("x\n"))
      assert.equal("x", near:receive())
    end)

    for _, place in ipairs(places) do
      it("in " .. place.name .. " leaves all in order", function()
        local timed_out = false
        local reader = moonlet.spawn(function()
          place.run(function()
            assert.equal("go", near:receive())
          end)
          local limit = moonlet.Timeout(0.001)
          assert.equal(limit, support.error_of(limit.run, limit, place.run, function()
            near:receive()
          end))
          timed_out = true
          place.run(function()
            near:receive()
          end)
        end)
        support.turns()
        assert(far:send("go\n"))
        support.eventually(function() return timed_out end)
        assert(far:send("un"))
        support.eventually(function() return near:dirty() end)
        reader:kill()
        assert.is_true(reader:successful())
        assert(far:send("hurt\n"))
        assert.equal("unhurt", near:receive())
      end)
    end
  end)

  describe("two greenlets", function()
    it("cannot read at once; the first is undisturbed", function()
      local results
      local reader = sockets.start(function()
        results = { near:receive() }
      end)
      for _, call in ipairs { "receive", "recv" } do
        assert.matches("socket already used by another greenlet", support.error_of(function()
          near[call](near)
        end))
      end
      assert(far:send("line\n"))
      reader:join()
      assert.same({ "line" }, results)
    end)

    it("may read and write at once", function()
      local reader = sockets.start(near.receive, near)
      assert.equal(1, near:send("x"))
      assert(far:send("line\n"))
      assert.equal("line", reader:get())
      assert.equal("x", far:receive(1))
    end)
  end)

  describe("the option line-limit", function()
    it("ends a line, or all, that is too long, and keeps memory flat", function()
      near:setoption("line-limit", 1000)
      assert.equal(1000, near:getoption("line-limit"))
      local data = ("x"):rep(20 << 20)
      local sender = moonlet.spawn(far.send, far, data)
      collectgarbage()
      local before = resident()
      for i = 1, 10000 do
        local line, message, partial = near:receive(i % 2 == 0 and "*l" or "*a")
        assert(not line and message == "too long" and #partial == 1000)
        if i % 1000 == 0 then
          collectgarbage()
        end
      end
      assert.is_true(support.sanitized or resident() - before < 8 << 20)
      near:close()
      sender:join()
    end)

    it("does not hold for a number of bytes, or for shorter lines", function()
      near:setoption("line-limit", 3)
      assert(far:send("abc\nabcd\nefgh"))
      assert.equal("abc", near:receive())
      assert.same({ nil, "too long", "abc" }, { near:receive() })
      assert.equal("d", near:receive())
      assert.equal("efgh", near:receive(4))
      near:setoption("line-limit", 0)
      assert(far:send("abcdefg\n"))
      assert.equal("abcdefg", near:receive())
    end)

    it("refuses what is no size", function()
      for _, value in ipairs { -1, "x", {} } do
        assert.matches("bad argument #2 to 'setoption'", support.error_of(function()
          near:setoption("line-limit", value)
        end))
      end
    end)
  end)

  it("does what its model does, however the bytes are cut", function()
    local random = 20261126
    local function below(n) -- a fixed sequence, on every machine
      random = (random * 6364136223846793005 + 1442695040888963407)
      return (random >> 33) % n
    end
    local alphabet = { "a", "bc", "\r", "\n", "\r\n", "\0", ("long"):rep(40), ("x"):rep(70000) }

    local function some_text()
      local parts = {}
      for i = 1, below(12) do
        parts[i] = alphabet[below(below(4) == 0 and #alphabet or 6) + 1]
      end
      return table.concat(parts)
    end

    local function send_in_pieces(sock, text)
      while text ~= "" do
        local size = below(3) == 0 and #text or below(9) + 1
        if #text > 1000 then
          size = size + below(40000)
        end
        assert(sock:send(text:sub(1, size)))
        text = text:sub(size + 1)
        if below(2) == 0 then
          moonlet.sleep(0)
        end
      end
      sock:close()
    end

    local function some_call()
      local patterns = { "*l", "*l", "*l", "*a", below(5), below(5), below(200), below(80000) }
      return patterns[below(below(6) == 0 and 8 or 7) + 1], ("prefix"):sub(1, below(2) * below(7))
    end

    for round = 1, 150 do
      local reader, writer, _ <close> = sockets.pair()
      local text = some_text()
      local read = setmetatable({ text = text }, Model)
      local sender = moonlet.spawn(send_in_pieces, writer, text)
      for step = 1, 40 do
        local pattern, prefix = some_call()
        local expected = table.pack(read:receive(pattern, prefix))
        local got = table.pack(reader:receive(pattern, prefix))
        local where = ("round %d, step %d, receive(%s, %q)"):format(round, step, pattern, prefix)
        for i = 1, 3 do
          assert(expected[i] == got[i], where)
        end
      end
      sender:join()
    end
  end)
end)
