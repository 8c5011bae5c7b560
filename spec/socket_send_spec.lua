local moonlet = require "moonlet"
local places = require "support.places"
local socket = require "moonlet.socket"
local sockets = require "support.sockets"
local support = require "support"

-- Reads until the end; returns how many bytes came, and whether all were in order.
local function drain(sock, piece)
  local total, all = 0, {}
  repeat
    local data, _, partial = sock:receive(piece or 65536)
    data = data or partial
    total = total + #data
    all[#all + 1] = data
  until data == ""
  return total, table.concat(all)
end

describe("moonlet.socket, send:", function()
  local near, far

  after_each(function()
    near:close()
    far:close()
  end)

  sockets.watch_descriptors(before_each, after_each)

  before_each(function()
    near, far = sockets.pair()
  end)

  it("sends it all, and returns the position of the last byte", function()
    assert.equal(5, near:send("hello"))
    assert.equal("hello", far:receive(5))
    assert.equal(3, near:send(1.5))
    assert.equal("1.5", far:receive(3))
  end)

  it("sends a part, whose positions are those of string.sub", function()
    for _, part in ipairs { { 2 }, { 2, 3 }, { -2 }, { -3, -2 }, { 0 }, { -99 }, { 1, 99 } } do
      local first, last = table.unpack(part)
      local expected = ("hello"):sub(first, last or -1)
      local sent = near:send("hello", first, last)
      assert.equal(expected, far:receive(#expected))
      assert.equal(select(2, ("hello"):find(expected, 1, true)), sent)
    end
  end)

  it("sends nothing where there is nothing, as LuaSocket does", function()
    assert.equal(0, near:send(""))
    assert.equal(2, near:send("hello", 3, 1))
    assert.equal(9, near:send("hello", 10))
    near:close()
    assert.equal(0, near:send(""))
  end)

  it("waits while the peer reads slowly, and blocks only its greenlet", function()
    local data = ("0123456789abcdef"):rep(1 << 18)
    local sender = sockets.start(near.send, near, data)
    assert.is_false(sender:ready())
    local reader = moonlet.spawn(function()
      local total = 0
      while total < #data do
        total = total + #far:receive(math.min(100000, #data - total))
        moonlet.sleep(0)
      end
      return total
    end)
    assert.equal(#data, sender:get())
    assert.equal(#data, reader:get())
  end)

  it("keeps the bytes in order", function()
    local parts = {}
    for i = 1, 200000 do
      parts[i] = ("%d\n"):format(i)
    end
    local data = table.concat(parts)
    local reader = moonlet.spawn(drain, far)
    assert.equal(#data, near:send(data))
    near:close()
    local total, all = reader:get()
    assert.equal(#data, total)
    assert.is_true(all == data)
  end)

  it("says how much is out when the timeout strikes", function()
    local data = ("x"):rep(64 << 20)
    for _, mode in ipairs { "b", "t" } do
      near:settimeout(nil)
      near:settimeout(0.02, mode)
      local sent, message, last = near:send(data, 11)
      assert.same({ nil, "timeout" }, { sent, message })
      assert.is_true(last >= 10 and last < #data, last)
      if mode == "b" then
        assert.is_true(last > 1000)
        assert.equal(last - 10, select(2, near:getstats()))
      end
    end
  end)

  it("with a timeout of 0 takes what fits", function()
    near:settimeout(0)
    local _, message, last = near:send(("x"):rep(64 << 20))
    assert.equal("timeout", message)
    assert.is_true(last > 0)
    assert.same({ nil, "timeout", 0 }, { near:send("y") })
    near:close()
    assert.equal(last, (drain(far)))
  end)

  it("has a limit for the whole call while the peer reads on", function()
    near:settimeout(0.1, "t")
    local data, reading = ("x"):rep(64 << 20), true
    local reader = moonlet.spawn(function()
      far:settimeout(0.02)
      while reading do
        far:receive(50000)
        moonlet.sleep(0.01)
      end
    end)
    local before = support.clock()
    local _, message = near:send(data)
    assert.equal("timeout", message)
    assert.is_true(support.clock() - before < 10)
    reading = false
    reader:join()
  end)

  it("returns 'closed' once the peer is gone, and no signal comes", function()
    far:close()
    support.eventually(function()
      local sent, message, last = near:send("x")
      assert(sent or message == "closed" and last == 0)
      return not sent
    end)
    assert.same({ nil, "closed", 0 }, { near:send("x") })
  end)

  it("returns 'closed' in a later turn when another greenlet closes the socket", function()
    sockets.fill(near)
    local results
    local sender = sockets.start(function()
      results = { near:send("more") }
    end)
    near:close()
    assert.is_nil(results)
    sender:join()
    assert.same({ nil, "closed", 0 }, results)
  end)

  it("returns 'closed' and how much is out when the peer resets the connection meanwhile",
     function()
       local sender = sockets.start(near.send, near, ("x"):rep(64 << 20))
       far:setoption("linger", { on = true, timeout = 0 })
       far:close()
       local sent, message, last = sender:get()
       assert.same({ nil, "closed" }, { sent, message })
       assert.is_true(last > 0)
     end)

  it("cannot be called by two greenlets at once; the first is undisturbed", function()
    local data = ("x"):rep(32 << 20)
    local sender = sockets.start(near.send, near, data)
    assert.matches("socket already used by another greenlet, which is writing",
                   support.error_of(near.send, near, "y"))
    local reader = moonlet.spawn(drain, far)
    assert.equal(#data, sender:get())
    near:close()
    assert.equal(#data, (reader:get()))
  end)

  it("refuses what is no string, and positions that are no integers", function()
    for number, arguments in pairs { { {} }, { "x", "one" }, { "x", 1, {} } } do
      assert.matches(("bad argument #%d to 'send'"):format(number), support.error_of(function()
        near:send(table.unpack(arguments))
      end))
    end
    assert.matches("bad argument #1 to 'send'", support.error_of(function() near:send() end))
  end)

  describe("a greenlet that is killed or timed out", function()
    it("leaves the socket to the next one", function()
      local filled = sockets.fill(near)
      local sender = sockets.start(near.send, near, ("x"):rep(32 << 20))
      sender:kill()
      local limit = moonlet.Timeout(0.005)
      assert.equal(limit, support.error_of(limit.run, limit, near.send, near, "y"))
      local reader = moonlet.spawn(drain, far)
      assert.equal(3, near:send("end"))
      near:close()
      local total, all = reader:get()
      assert.equal("end", all:sub(-3))
      assert.is_true(total >= filled + 3)
    end)

    for _, place in ipairs(places) do
      it("in " .. place.name .. " leaves all in order", function()
        sockets.closing(near, far):close()
        near, far = socket.socketpair() -- whose buffers are smaller
        sockets.fill(near)
        local timed_out = false
        local sender = moonlet.spawn(function()
          local limit = moonlet.Timeout(0.001)
          assert.equal(limit, support.error_of(limit.run, limit, place.run, function()
            near:send("never")
          end))
          timed_out = true
          place.run(function()
            near:send("never")
          end)
        end)
        support.eventually(function() return timed_out end)
        sender:kill()
        assert.is_true(sender:successful())
        local reader = moonlet.spawn(drain, far)
        moonlet.spawn(function()
          place.run(function()
            assert.equal(3, near:send("end"))
          end)
          near:close()
        end):get()
        local _, all = reader:get()
        assert.equal("xend", all:sub(-4))
        assert.is_nil(all:find("never", 1, true))
      end)
    end
  end)
end)

describe("moonlet.socket, sendfile:", function()
  local near, far, file
  local content = ("0123456789abcdef\n"):rep(200000)

  after_each(function()
    near:close()
    far:close()
    file:close()
  end)

  sockets.watch_descriptors(before_each, after_each)

  before_each(function()
    near, far = sockets.pair()
    file = assert(io.tmpfile())
    file:write(content)
    file:flush()
  end)

  it("sends a whole file while the peer reads", function()
    local reader = moonlet.spawn(drain, far)
    assert.equal(#content, near:sendfile(file))
    near:close()
    local _, all = reader:get()
    assert.is_true(all == content)
    assert.equal(#content, file:seek("cur"))
  end)

  it("sends a part of it", function()
    assert.equal(5, near:sendfile(file, 3, 5))
    assert.equal("34567", far:receive(5))
    assert.equal(4, near:sendfile(file, #content - 4, 100))
    assert.equal("def\n", far:receive(4))
    assert.equal(0, near:sendfile(file, #content))
    assert.equal(0, near:sendfile(file, 0, 0))
    assert.equal(17, select(2, near:getstats()) + 8)
  end)

  it("stops at the timeout, when killed and when closed", function()
    local big <close> = assert(io.tmpfile())
    assert(big:seek("set", 64 << 20))
    big:write("x")
    big:flush()
    near:settimeout(0.01)
    local sent, message, out = near:sendfile(big)
    assert.same({ nil, "timeout" }, { sent, message })
    assert.is_true(out > 0)
    near:settimeout()
    local sender = sockets.start(near.sendfile, near, big)
    assert.matches("already used by another greenlet", support.error_of(near.sendfile, near, big))
    sender:kill()
    sender = sockets.start(near.sendfile, near, big)
    near:close()
    assert.same({ nil, "closed", 0 }, { sender:get() })
  end)

  it("refuses what is no file, and bad positions", function()
    for number, arguments in pairs { { "name" }, { file, -1 }, { file, 0, "all" } } do
      assert.matches(("bad argument #%d to 'sendfile'"):format(number), support.error_of(function()
        near:sendfile(table.unpack(arguments))
      end))
    end
    assert.matches("bad argument #1 to 'sendfile'", support.error_of(function()
      near:sendfile(1 << 19)
    end))
    assert.is_nil((near:sendfile(far))) -- a socket cannot be mapped
  end)
end)
