local moonlet = require "moonlet"
local places = require "support.places"
local socket = require "moonlet.socket"
local sockets = require "support.sockets"
local support = require "support"

local wait_read, wait_write = socket.wait_read, socket.wait_write

describe("moonlet.socket, wait_read and wait_write:", function()
  local near, far

  after_each(function()
    near:close()
    far:close()
  end)

  sockets.watch_descriptors(before_each, after_each)

  before_each(function()
    near, far = sockets.pair()
  end)

  it("return true at once if it is ready", function()
    assert.is_true(wait_write(near))
    assert.is_true(wait_write(near:getfd(), 0))
    assert(far:send("x"))
    assert.is_true(wait_read(near, 5))
    assert.is_true(wait_read(near:getfd(), 0))
  end)

  it("find a socket ready that has input in its buffer", function()
    assert(far:send("one\ntwo\n"))
    assert.equal("one", near:receive())
    assert.is_true(wait_read(near, 0))
    assert.equal("two", near:receive())
    assert.same({ nil, "timeout" }, { wait_read(near, 0) })
  end)

  it("block only their greenlet until it is", function()
    local seen = support.trace()
    local reader = sockets.start(function()
      seen(wait_read(near))
    end)
    seen("others ran")
    assert(far:send("x"))
    reader:join()
    assert.equal("others ran true", tostring(seen))
    assert.equal("x", near:receive(1))
    sockets.fill(near)
    local writer = sockets.start(wait_write, near)
    assert.is_false(writer:ready())
    moonlet.spawn(function()
      far:receive(8 << 20)
    end)
    assert.is_true(writer:get())
    near:close()
  end)

  it("return nil, 'timeout' when the time is over, or at once with 0", function()
    for _, seconds in ipairs { 0.005, 0, -1 } do
      assert.same({ nil, "timeout" }, { wait_read(near, seconds) })
    end
    sockets.fill(near)
    assert.same({ nil, "timeout" }, { wait_write(near, 0.005) })
  end)

  it("take a started Timeout, which raises", function()
    local limit <close> = moonlet.Timeout.start_new(0.005)
    assert.equal(limit, support.error_of(wait_read, near, limit))
  end)

  it("take Lua's files and all objects with getfd", function()
    local pipe <close> = io.popen("echo hi")
    assert.is_true(wait_read(pipe, 10))
    assert.equal("hi", pipe:read())
    assert.is_true(wait_write { getfd = function() return near:getfd() end })
  end)

  it("refuse what is no open descriptor", function()
    local closed = io.tmpfile()
    closed:close()
    for _, value in ipairs { -1, 1 << 18, 1 << 40, 1.5, "x", {}, closed, moonlet.getcurrent() } do
      for _, call in ipairs { wait_read, wait_write } do
        assert.matches("bad argument #1 to", support.error_of(call, value))
      end
    end
    near:close()
    assert.matches("bad argument #1 to", support.error_of(wait_read, near))
    assert.matches("bad argument #1 to", support.error_of(wait_read))
    for _, value in ipairs { "soon", {}, 0 / 0, moonlet.Timeout(1) } do
      assert.matches("bad argument #2 to", support.error_of(wait_read, far, value))
    end
  end)

  it("return nil, 'closed' in a later turn when it is closed; the caller runs on", function()
    local results
    local reader = sockets.start(function()
      results = { wait_read(near) }
    end)
    near:close()
    assert.is_nil(results)
    reader:join()
    assert.same({ nil, "closed" }, results)
  end)

  it("may be done by many greenlets at once, of whom all are woken", function()
    local seen, list = support.trace(), {}
    for i = 1, 5 do
      list[i] = moonlet.spawn(function()
        assert(wait_read(near))
        seen(i)
      end)
    end
    support.turns()
    assert(far:send("x"))
    moonlet.joinall(list)
    assert.equal("1 2 3 4 5", tostring(seen))
  end)

  it("may be done beside a reader of the socket", function()
    local reader = sockets.start(near.receive, near)
    local other = sockets.start(wait_read, near)
    assert(far:send("line\n"))
    assert.is_true(other:get())
    assert.equal("line", reader:get())
  end)

  for _, place in ipairs(places) do
    it("in " .. place.name .. " can be killed and timed out", function()
      local timed_out = false
      local waiter = moonlet.spawn(function()
        local limit = moonlet.Timeout(0.001)
        assert.equal(limit, support.error_of(limit.run, limit, place.run, function()
          wait_read(near)
        end))
        timed_out = true
        place.run(function()
          wait_read(near)
        end)
      end)
      support.eventually(function() return timed_out end)
      assert.is_false(waiter:ready())
      waiter:kill()
      assert(far:send("x"))
      place.run(function()
        assert.is_true(wait_read(near))
      end)
    end)
  end
end)

describe("moonlet.socket, select:", function()
  local near, far

  after_each(function()
    near:close()
    far:close()
  end)

  sockets.watch_descriptors(before_each, after_each)

  before_each(function()
    near, far = sockets.pair()
  end)

  it("returns those that are ready, and where they stand", function()
    assert(far:send("x"))
    support.eventually(function()
      local readable, writable, problem = socket.select({ near, far }, { near, far }, 5)
      assert.same({ nil, far, 1, 2 }, { problem, writable[2], writable[near], writable[far] })
      return #readable == 1 and readable[1] == near and readable[near] == 1
    end)
  end)

  it("returns empty lists and 'timeout'", function()
    for _, seconds in ipairs { 0, 0.005 } do
      assert.same({ {}, {}, "timeout" }, { socket.select({ near }, {}, seconds) })
      assert.same({ {}, {}, "timeout" }, { socket.select(nil, nil, seconds) })
    end
  end)

  it("blocks only its greenlet; below 0 is no limit", function()
    for _, limit in ipairs { false, -1 } do
      local selecting = sockets.start(socket.select, { near }, nil, limit or nil)
      assert.is_false(selecting:ready())
      assert(far:send("x"))
      assert.equal(near, selecting:get()[1])
      assert.equal("x", near:receive(1))
    end
  end)

  it("finds those readable that have input in their buffer", function()
    assert(far:send("one\ntwo\n"))
    assert.equal("one", near:receive())
    assert.is_true(near:dirty())
    assert.equal(near, (socket.select({ near }, nil, 0))[1])
    assert.equal("two", near:receive())
    assert.is_false(near:dirty())
    assert.same({}, (socket.select({ near }, nil, 0)))
  end)

  it("takes a server as readable when a client has come", function()
    local server <close>, port = sockets.listen()
    local selecting = sockets.start(socket.select, { server })
    assert.is_false(selecting:ready())
    local client <close> = socket.connect("127.0.0.1", port)
    assert.equal(server, selecting:get()[1])
    server:accept():close()
    assert(client)
  end)

  it("takes those without a descriptor as never ready", function()
    local fresh <close> = socket.tcp()
    near:close()
    assert.same({ {}, {}, "timeout" }, { socket.select({ fresh, near }, { fresh, near }, 0.005) })
  end)

  it("takes sinks and sources", function()
    local source, sink = socket.source("until-closed", near), socket.sink("keep-open", near)
    assert.equal(sink, (select(2, socket.select(nil, { sink }, 1)))[1])
    assert.same({}, (socket.select({ source }, nil, 0)))
    assert(far:send("one\nrest"))
    assert.equal("one", near:receive())
    assert.equal(source, (socket.select({ source }, nil, 0))[1])
  end)

  it("refuses what is no list of sockets, by number", function()
    assert.matches("bad argument #1 to 'select'", support.error_of(socket.select, 1))
    assert.matches("bad argument #2 to 'select'", support.error_of(socket.select, {}, "x"))
    assert.matches("bad argument #1 to 'select'", support.error_of(socket.select, { {} }))
    assert.matches("bad argument #2 to 'select'", support.error_of(socket.select, nil, { "x" }))
    assert.matches("bad argument #1 to 'select'", support.error_of(socket.select, { 1 << 18 }))
    assert.matches("bad argument #3 to 'select'", support.error_of(socket.select, {}, {}, "soon"))
  end)

  it("raises when a socket is closed meanwhile", function()
    local selecting = sockets.start(pcall, socket.select, { near })
    near:close()
    local ok, message = selecting:get()
    assert.is_false(ok)
    assert.matches("was closed", message)
  end)
end)

describe("moonlet.socket, gettime and sleep:", function()
  it("are the time of day, and a wait", function()
    assert.is_true(math.abs(socket.gettime() - os.time()) < 5)
    local before = support.clock()
    socket.sleep(0.01)
    assert.is_true(support.clock() - before >= 0.01)
    socket.sleep(-1)
    assert.matches("bad argument #1 to 'sleep'", support.error_of(socket.sleep, "long"))
    assert.matches("socket_wait_spec%.lua:%d+: bad argument #1 to 'sleep'",
                   support.error_of(function() socket.sleep("long") end))
  end)
end)

describe("Many sockets that are ready at once", function()
  sockets.watch_descriptors(before_each, after_each)

  local function compute(seconds)
    local ends = moonlet.now() + seconds
    repeat until moonlet.now() >= ends
  end

  it("are not looked for again and again while they are served", function()
    local couples, greenlets = {}, {}
    for i = 1, 400 do
      local near, far = sockets.pair()
      couples[i] = { near = near, far = far }
      greenlets[i] = moonlet.spawn(function()
        assert(wait_read(near))
        compute(0.0005)
      end)
    end
    moonlet.sleep(0)
    for _, couple in ipairs(couples) do
      assert(couple.far:send("x"))
    end
    local before = moonlet.stats().polls
    moonlet.joinall(greenlets, nil, true)
    local polls = moonlet.stats().polls - before
    assert.is_true(polls <= 40, polls .. " polls")
    for _, couple in ipairs(couples) do
      couple.near:close()
      couple.far:close()
    end
  end)
end)
