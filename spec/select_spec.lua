local moonlet = require "moonlet"
local select = require "moonlet.select"
local socket = require "socket"
local support = require "support"

local function empty(...)
  assert.same({ n = 3, {}, {}, {} }, table.pack(...))
end

describe("moonlet.select", function()
  local a, b

  before_each(function()
    local listener = assert(socket.bind("127.0.0.1", 0))
    local _, port = listener:getsockname()
    a = assert(socket.connect("127.0.0.1", port))
    b = assert(listener:accept())
    listener:close()
  end)

  after_each(function()
    a:close()
    b:close()
  end)

  -- Has b's end send something once others had a few turns.
  local function send_later()
    return moonlet.spawn(function()
      support.turns()
      assert(b:send("x"))
    end)
  end

  describe("select", function()
    it("returns three lists, of those ready to read, to write, and with urgent data", function()
      assert(b:send("x"))
      support.eventually(function()
        local r, w, x = select.select({ a }, { a }, { a }, 0)
        assert.same({ a }, w)
        assert.same({}, x)
        return r[1] == a
      end)
    end)

    it("takes descriptors, objects with getfd and Lua's files, and returns those very ones",
       function()
         local file <close> = io.popen("echo hi")
         local object = { getfd = function() return a:getfd() end }
         local fd = a:getfd()
         assert(b:send("x"))
         support.eventually(function()
           local r = select.select({ fd, object, a, file }, {}, {}, 5)
           return #r == 4 and r[1] == fd and r[2] == object and r[3] == a and r[4] == file
         end)
         assert.equal("hi", file:read())
       end)

    it("finds a regular file ready at once", function()
      local file <close> = assert(io.tmpfile())
      local r, w = select.select({ file }, { file }, {})
      assert.same({ file }, r)
      assert.same({ file }, w)
    end)

    it("takes nil for an empty list", function()
      empty(select.select(nil, nil, nil, 0))
      local _, w = select.select(nil, { a })
      assert.same({ a }, w)
    end)

    it("blocks only its greenlet, until a descriptor is ready", function()
      local seen = support.trace()
      local g = moonlet.spawn(function()
        local r, w, x = select.select({ a }, {}, {})
        assert.same({ a }, r)
        assert.same({}, w)
        assert.same({}, x)
        seen("ready")
      end)
      support.turns()
      seen("others ran")
      assert(b:send("x"))
      g:join()
      assert.equal("others ran ready", tostring(seen))
    end)

    it("lets others run once even when something is ready, and with a timeout of 0", function()
      local seen = support.trace()
      local g = moonlet.spawn(seen, "other")
      select.select({}, { a }, {})
      assert.equal("other", tostring(seen))
      g:join()
      g = moonlet.spawn(seen, "again")
      empty(select.select({ a }, {}, {}, 0))
      assert.equal("other again", tostring(seen))
      g:join()
    end)

    it("returns three empty lists when the timeout passes, or at once with 0 or less", function()
      empty(select.select({ a }, {}, {}, 0.001))
      empty(select.select({ a }, {}, {}, 0))
      empty(select.select({ a }, {}, {}, -1))
    end)

    it("is a sleep when it is given nothing to watch", function()
      local start = socket.gettime()
      empty(select.select({}, {}, {}, 0.02))
      assert.is_true(socket.gettime() - start >= 0.019)
    end)

    it("overlaps with others: of two that wait the second begins before the first ends", function()
      local seen = support.trace()
      local function wait()
        seen("begins")
        empty(select.select({}, {}, {}, 0.02))
        seen("ends")
      end
      moonlet.joinall { moonlet.spawn(wait), moonlet.spawn(wait) }
      assert.equal("begins begins ends ends", tostring(seen))
    end)

    it("in LoopExit's sense waits for nothing without descriptors and timeout", function()
      support.unbounded()
      local err = support.error_of(select.select, {}, {}, {})
      assert.is_true(err:is(moonlet.LoopExit))
    end)

    it("wakes at least for one of several descriptors", function()
      local g = send_later()
      local r, w = select.select({ a, b }, {}, {}, 5)
      assert.same({ a }, r)
      assert.same({}, w)
      g:join()
    end)

    it("wakes for the end of the stream", function()
      b:close()
      assert.same({ a }, (select.select({ a }, {}, {}, 5)))
      assert.equal("closed", (({ a:receive() })[2]))
    end)

    it("waits in several greenlets for one descriptor, and wakes them all", function()
      local list = {}
      for i = 1, 3 do
        list[i] = moonlet.spawn(select.select, { a }, {}, {}, 5)
      end
      support.turns(1)
      assert(b:send("x"))
      for i = 1, 3 do
        assert.same({ a }, (list[i]:get()))
      end
    end)

    it("ignores the third list while it blocks", function()
      empty(select.select({}, {}, { a }, 0.001))
    end)

    it("stops watching when it is killed, times out or is hit by a Timeout", function()
      local g = moonlet.spawn(select.select, { a }, {}, {})
      support.turns(1)
      g:kill()
      assert.is_true(g.value:is(moonlet.GreenletExit))
      local own <close> = moonlet.Timeout.start_new(0.001)
      assert.equal(own, support.error_of(select.select, { a }, {}, {}, own))
      local outer <close> = moonlet.Timeout.start_new(0.001)
      assert.equal(outer, support.error_of(select.select, { a }, {}, {}, 5))
    end)

    it("blocks inside a comparator and inside a user's coroutine", function()
      local g = send_later()
      local list = { 2, 1 }
      table.sort(list, function(x, y) return #select.select({ a }, {}, {}, 5) == 1 and x < y end)
      assert.same({ 1, 2 }, list)
      local step = coroutine.wrap(function() return #select.select({ a }, {}, {}, 5) end)
      assert.equal(1, step())
      g:join()
    end)

    it("raises for what is no descriptor, naming itself and the argument", function()
      for _, bad in ipairs { "five", {}, true, -1, 1.5 } do
        assert.matches("bad argument #1 to 'select'",
                       support.error_of(function() select.select({ bad }, {}, {}, 0) end))
        assert.matches("bad argument #2 to 'select'",
                       support.error_of(function() select.select({}, { bad }, {}, 0) end))
      end
      assert.matches("bad argument #1 to 'select'",
                     support.error_of(function() select.select(5, {}, {}, 0) end))
      assert.matches("bad argument #4 to 'select'",
                     support.error_of(function() select.select({}, {}, {}, {}) end))
    end)

    it("raises for a file that is closed", function()
      local file = assert(io.tmpfile())
      file:close()
      assert.is_false((pcall(select.select, { file }, {}, {}, 0)))
    end)

    it("fails for a descriptor that is not open, instead of waiting for it", function()
      local fd = a:getfd()
      a:close()
      local ok, r, message, errno = pcall(select.select, { fd }, {}, {}, 5)
      assert.is_true(not ok or r == nil)
      if ok then
        assert.is_string(message)
        assert.equal(9, errno)
      end
    end)
  end)

  describe("poll", function()
    -- The events by descriptor.
    local function poll(p, timeout)
      local events = {}
      for _, pair in ipairs(p:poll(timeout)) do
        events[pair[1]] = pair[2]
      end
      return events
    end

    it("returns an empty list when the timeout, in seconds, passes", function()
      local p = select.poll()
      p:register(a, "r")
      assert.same({}, p:poll(0.001))
      assert.same({}, p:poll(0))
      assert.same({}, p:poll(-1))
    end)

    it("returns pairs of what was registered and its events", function()
      local p = select.poll()
      p:register(a, "r")
      local g = send_later()
      local list = p:poll()
      assert.equal(1, #list)
      assert.equal(a, list[1][1])
      assert.equal("r", list[1][2])
      g:join()
    end)

    it("watches for reading and writing by default", function()
      local p, fd = select.poll(), a:getfd()
      p:register(fd)
      assert.same({ [fd] = "w" }, poll(p))
      assert(b:send("x"))
      support.eventually(function() return poll(p)[fd] == "rw" end)
    end)

    it("register again replaces the events, as modify does", function()
      local p = select.poll()
      p:register(a, "w")
      p:register(a, "r")
      assert.same({}, p:poll(0))
      p:modify(a, "w")
      assert.same({ [a] = "w" }, poll(p, 0))
    end)

    it("forgets what is unregistered, and raises for what is unknown", function()
      local p = select.poll()
      p:register(a, "w")
      p:unregister(a)
      assert.same({}, p:poll(0))
      assert.is_false((pcall(p.unregister, p, a)))
      assert.is_false((pcall(p.unregister, p, 12345)))
    end)

    it("returns all that are ready", function()
      local p = select.poll()
      p:register(a, "w")
      p:register(b, "w")
      assert.same({ [a] = "w", [b] = "w" }, poll(p))
    end)

    it("blocks only its greenlet, stops at a kill, and may be used again", function()
      local p = select.poll()
      p:register(a, "r")
      local g = moonlet.spawn(p.poll, p)
      support.turns(1)
      g:kill()
      assert.is_true(g.value:is(moonlet.GreenletExit))
      local sender = send_later()
      assert.equal(a, p:poll(5)[1][1])
      sender:join()
    end)

    it("raises a started Timeout given as its timeout", function()
      local p = select.poll()
      p:register(a, "r")
      local own <close> = moonlet.Timeout.start_new(0.001)
      assert.equal(own, support.error_of(p.poll, p, own))
    end)

    it("refuses what is no descriptor and events it does not know, by name", function()
      local p = select.poll()
      assert.matches("bad argument #1 to 'register'",
                     support.error_of(function() p:register("five") end))
      assert.matches("bad argument #2 to 'register'",
                     support.error_of(function() p:register(a, "q") end))
    end)

    it("says in tostring what it is and how many it watches", function()
      local p = select.poll()
      local none = tostring(p)
      assert.matches("poll", none)
      p:register(a)
      assert.are_not.equal(none, tostring(p))
    end)
  end)
end)
