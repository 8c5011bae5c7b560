-- Greenlets that wait for sockets of ZeroMQ's.

local ThreadPool = require("moonlet.threadpool").ThreadPool
local moonlet = require "moonlet"
local places = require "support.places"
local select = require("moonlet.select").select
local socketpair = require("moonlet.socket").socketpair
local support = require "support"
local zmq = require "moonlet.zmq"

describe("moonlet.zmq's waiting", function()
  local context

  before_each(function()
    context = zmq.Context()
  end)

  after_each(function()
    context:destroy(0)
  end)

  local endpoints = 0

  local function pair(type, other_type, options)
    endpoints = endpoints + 1
    local a, b = context:socket(type), context:socket(other_type)
    for option, value in pairs(options or {}) do
      assert.is_true(a:setsockopt(option, value))
      assert.is_true(b:setsockopt(option, value))
    end
    assert.truthy(a:bind("inproc://waiting" .. endpoints))
    assert.is_true(b:connect("inproc://waiting" .. endpoints))
    return a, b
  end

  it("blocks only its greenlet", function()
    local a, b = pair(zmq.PAIR, zmq.PAIR)
    local seen = support.trace()
    local receiver = moonlet.spawn(function()
      seen(b:receive())
    end)
    moonlet.sleep(0.01)
    seen("others run")
    a:send("message")
    receiver:join()
    assert.equal("others run message", tostring(seen))
  end)

  it("gives messages to those who wait in the order in which they came", function()
    local a, b = pair(zmq.PUSH, zmq.PULL)
    local seen = support.trace()
    local receivers = {}
    for i = 1, 5 do
      receivers[i] = moonlet.spawn(function()
        seen(i .. b:receive())
      end)
    end
    moonlet.sleep(0.01)
    for _, name in ipairs { "a", "b", "c", "d", "e" } do
      a:send(name)
    end
    moonlet.joinall(receivers)
    assert.equal("1a 2b 3c 4d 5e", tostring(seen))
  end)

  it("lets senders wait for room, each until its message has gone", function()
    local a, b = pair(zmq.PUSH, zmq.PULL, { [zmq.SNDHWM] = 1, [zmq.RCVHWM] = 1 })
    local senders, sent = {}, 0
    for i = 1, 20 do
      senders[i] = moonlet.spawn(function()
        assert(a:send("m" .. i))
        sent = sent + 1
      end)
    end
    moonlet.sleep(0.01)
    assert.is_true(sent < 20)
    local got = {}
    for i = 1, 20 do
      got[i] = b:receive()
    end
    moonlet.joinall(senders)
    assert.equal(20, sent)
    for i = 1, 20 do
      assert.equal("m" .. i, got[i])
    end
  end)

  -- A send processes what the peer has said, and with it what makes the socket readable: the
  -- descriptor does not tell of it again.
  it("wakes a receiver whose message a send has noticed", function()
    for _, endpoint in ipairs { "inproc://noticed", "tcp://127.0.0.1:*" } do
      local a, b = context:socket(zmq.DEALER), context:socket(zmq.DEALER)
      b:connect((assert(a:bind(endpoint))))
      local echo = moonlet.spawn(function()
        for message in function() return (b:receive()) end do
          b:send(message)
        end
      end)
      local count = 0
      local receiver = moonlet.spawn(function()
        while a:receive() do
          count = count + 1
        end
      end)
      for _ = 1, 300 do
        a:send("x")
        if math.random(3) == 1 then
          moonlet.sleep(0)
        end
        a:events()
      end
      support.eventually(function()
        return count == 300
      end)
      a:close()
      b:close()
      moonlet.joinall { echo, receiver }
    end
  end)

  it("loses no wake-up between many senders and receivers of the same sockets", function()
    for _, endpoint in ipairs { "inproc://many", "tcp://127.0.0.1:*" } do
      local a, b = context:socket(zmq.DEALER), context:socket(zmq.DEALER)
      for _, socket in ipairs { a, b } do
        socket:setsockopt(zmq.SNDHWM, 3)
        socket:setsockopt(zmq.RCVHWM, 3)
      end
      b:connect((assert(a:bind(endpoint))))
      local greenlets, received = {}, { [a] = 0, [b] = 0 }
      for _, socket in ipairs { a, b } do
        for i = 1, 8 do
          table.insert(greenlets, moonlet.spawn(function()
            for _ = 1, 50 do
              assert(socket:send("x"))
              if i % 2 == 0 then
                moonlet.sleep(0)
              end
            end
          end))
          table.insert(greenlets, moonlet.spawn(function()
            for _ = 1, 50 do
              assert(socket:receive())
              received[socket] = received[socket] + 1
            end
          end))
        end
      end
      moonlet.joinall(greenlets, nil, true)
      assert.equal(400, received[a])
      assert.equal(400, received[b])
      a:close()
      b:close()
    end
  end)

  it("serves both of two senders for whom a router has no room", function()
    local router = context:socket(zmq.ROUTER)
    router:setsockopt(zmq.ROUTER_MANDATORY, 1)
    router:setsockopt(zmq.SNDHWM, 1)
    router:bind("inproc://mandatory")
    local dealers, senders, sent = {}, {}, 0
    for i = 1, 3 do
      dealers[i] = context:socket(zmq.DEALER)
      dealers[i]:setsockopt(zmq.ROUTING_ID, "d" .. i)
      dealers[i]:setsockopt(zmq.RCVHWM, 1)
      dealers[i]:connect("inproc://mandatory")
      dealers[i]:send("here")
      router:receive()
    end
    for i = 1, 2 do
      senders[i] = moonlet.spawn(function()
        for _ = 1, 20 do
          assert(router:send { "d" .. i, "x" })
          sent = sent + 1
        end
      end)
    end
    moonlet.sleep(0.05)
    assert.is_true(sent < 20)
    for i = 2, 1, -1 do
      for _ = 1, 20 do
        assert.equal("x", dealers[i]:receive())
      end
    end
    moonlet.joinall(senders, nil, true)
    assert.equal(40, sent)
  end)

  it("ends at the timeout of the call, of the option, or of a Timeout", function()
    local a = pair(zmq.PAIR, zmq.PAIR)
    local lone = context:socket(zmq.PUSH)
    local function takes(seconds, f, ...)
      local begun = support.clock()
      local results = { f(...) }
      assert.is_true(support.clock() - begun >= seconds - 0.002)
      return results
    end
    assert.same({ nil, "timeout" }, takes(0.02, a.receive, a, 0.02))
    assert.same({ nil, "timeout" }, takes(0.02, lone.send, lone, "x", 0, 0.02))
    a:setsockopt(zmq.RCVTIMEO, 20)
    lone:setsockopt(zmq.SNDTIMEO, 20)
    assert.same({ nil, "timeout" }, takes(0.02, a.receive, a))
    assert.same({ nil, "timeout" }, takes(0.02, lone.send, lone, "x"))
    local limit = moonlet.Timeout(0.02)
    assert.equal(limit, support.error_of(limit.run, limit, a.receive, a, limit))
    a:setsockopt(zmq.RCVTIMEO, 0)
    assert.same({ nil, "timeout" }, { a:receive() })
  end)

  it("times a sender out at a router without room", function()
    local router, dealer = pair(zmq.ROUTER, zmq.DEALER, { [zmq.SNDHWM] = 1, [zmq.RCVHWM] = 1 })
    router:setsockopt(zmq.ROUTER_MANDATORY, true)
    dealer:send("here")
    local identity = router:receive()
    local result
    repeat
      result = { router:send({ identity, "x" }, 0, 0.05) }
    until not result[1]
    assert.same({ nil, "timeout" }, result)
  end)

  it("can be killed, and hands the message on to the next", function()
    local a, b = pair(zmq.PUSH, zmq.PULL)
    local seen = support.trace()
    local function receive(name)
      return moonlet.spawn(function()
        seen(name .. b:receive())
      end)
    end
    local first, second = receive("1"), receive("2")
    moonlet.sleep(0.01)
    a:send("x")
    first:kill()
    second:join()
    assert.equal("2x", tostring(seen))
  end)

  it("ends with closed when another greenlet closes the socket", function()
    local a, b = pair(zmq.PAIR, zmq.PAIR)
    local lone = context:socket(zmq.PUSH)
    local results = {}
    local waiters = {
      moonlet.spawn(function() results[1] = { b:receive() } end),
      moonlet.spawn(function() results[2] = { b:receive(10) } end),
      moonlet.spawn(function() results[3] = { b:poll() } end),
      moonlet.spawn(function() results[4] = { lone:send("x") } end),
    }
    moonlet.sleep(0.01)
    b:close()
    lone:close()
    moonlet.joinall(waiters)
    for i = 1, 4 do
      assert.same({ nil, "closed" }, results[i])
    end
    a:close()
  end)

  it("ends when the context does", function()
    local other = zmq.Context()
    local results, waiters = {}, {}
    local puller, pusher = other:socket(zmq.PULL), other:socket(zmq.PUSH)
    puller:bind("inproc://ends")
    for i = 1, 3 do
      waiters[i] = moonlet.spawn(function()
        results[i] = { puller:receive() }
      end)
    end
    waiters[4] = moonlet.spawn(function()
      results[4] = { pusher:send("x") }
    end)
    moonlet.sleep(0.01)
    assert.is_true(other:term())
    moonlet.joinall(waiters)
    for i = 1, 4 do
      assert.same({ nil, "closed" }, results[i])
    end
  end)

  it("waits at the end of a context for what was sent, as long as linger says", function()
    local other = zmq.Context()
    local pusher = other:socket(zmq.PUSH)
    local puller = context:socket(zmq.PULL)
    local endpoint = puller:bind("tcp://127.0.0.1:*")
    puller:unbind(endpoint)
    pusher:connect(endpoint)
    pusher:send("late")
    assert.same({ nil, "timeout" }, { other:term(0.02) })
    assert.matches(": closing, 0 sockets>$", tostring(other))
    local killed = moonlet.spawn(other.term, other)
    moonlet.sleep(0)
    killed:kill()
    support.eventually(function()
      return puller:bind(endpoint)
    end)
    assert.equal("late", puller:receive())
    assert.is_true(other:term())

    local third = zmq.Context()
    local lost = third:socket(zmq.PUSH)
    lost:connect("tcp://127.0.0.1:1")
    lost:send("never")
    lost:close(0.02)
    assert.is_true(third:term())
    local fourth <close> = zmq.Context()
    local dropped = fourth:socket(zmq.PUSH)
    dropped:connect("tcp://127.0.0.1:1")
    dropped:send("never")
    assert.is_true(fourth:destroy(0))
  end)

  it("drops what was not sent where an error ends the block of a context", function()
    local err = support.error_of(function()
      local other <close> = zmq.Context()
      local pusher = other:socket(zmq.PUSH)
      pusher:connect("tcp://127.0.0.1:1")
      pusher:send("never")
      error("mistake", 0)
    end)
    assert.equal("mistake", err)
  end)

  it("delivers what a program sent before it ended its context", function()
    local puller = context:socket(zmq.PULL)
    local endpoint = puller:bind("tcp://127.0.0.1:*")
    local result = support.run_script([[
      local zmq = require "moonlet.zmq"
      local context <close> = zmq.Context()
      local pusher = context:socket(zmq.PUSH)
      pusher:connect(arg[1])
      for i = 1, 1000 do
        pusher:send(tostring(i))
      end
    ]], { args = { endpoint } })
    assert.equal("", result.stderr)
    assert.equal(0, result.status)
    for i = 1, 1000 do
      assert.equal(tostring(i), puller:receive())
    end
  end)

  it("ends a program that leaves everything open", function()
    local result = support.run_script([[
      local moonlet, zmq = require "moonlet", require "moonlet.zmq"
      local context = zmq.Context()
      local pusher, puller = context:socket(zmq.PUSH), context:socket(zmq.PULL)
      pusher:connect("tcp://127.0.0.1:1")
      pusher:send("never")
      moonlet.spawn(puller.receive, puller)
      moonlet.sleep(0.01)
    ]])
    assert.equal("", result.stderr)
    assert.equal(0, result.status)
  end)

  for _, place in ipairs(places) do
    it("is possible in " .. place.name, function()
      local a, b = pair(zmq.PAIR, zmq.PAIR)
      local sender = moonlet.spawn(function()
        for _ = 1, 1000 do
          moonlet.sleep(0.001)
          a:send("x", 0, 1)
        end
      end)
      place.run(function()
        assert(b:receive() == "x")
      end)
      sender:kill()
    end)
  end

  it("is the parent's affair in the child of a fork, where all is closed", function()
    local result = support.run_script([[
      local moonlet, zmq = require "moonlet", require "moonlet.zmq"
      context = zmq.Context()
      a, b = context:socket(zmq.PAIR), context:socket(zmq.PAIR)
      a:bind("inproc://fork")
      b:connect("inproc://fork")
      local Pool = require("moonlet.processpool").Pool
      require("moonlet.processpool.core").program = function() return "a host" end
      local pool = Pool(1)
      a:send("x")
      print(pool:spawn(function()
        local own <close> = require("moonlet.zmq").Context()
        local c, d = own:socket(3), own:socket(4)
        d:bind("inproc://own")
        c:connect("inproc://own")
        c:send("y")
        local _, why = b:receive()
        local results = { a:closed(), context:closed(), why, d:receive() }
        a:close()
        context:term()
        a, b, context = nil, nil, nil
        collectgarbage()
        return table.unpack(results)
      end):get(10))
      print(b:receive(1))
      a:send("z")
      print(b:receive(1))
      context:term()
    ]])
    assert.equal("", result.stderr)
    assert.equal("true\ttrue\tclosed\ty\nx\nz\n", result.stdout)
  end)

  it("goes on in the threads of a pool, each with a context of its own", function()
    local threads = ThreadPool(2)
    local puller = context:socket(zmq.PULL)
    local endpoint = puller:bind("tcp://127.0.0.1:*")
    local tasks = {}
    for i = 1, 2 do
      tasks[i] = threads:spawn(function(where, name)
        local inner = require "moonlet.zmq"
        local own <close> = inner.Context()
        local pusher = own:socket(inner.PUSH)
        pusher:connect(where)
        for _ = 1, 500 do
          pusher:send(name)
        end
      end, endpoint, "t" .. i)
    end
    local counts = { t1 = 0, t2 = 0 }
    for _ = 1, 1000 do
      local name = puller:receive(10)
      counts[name] = counts[name] + 1
    end
    moonlet.joinall(tasks)
    threads:kill()
    assert.same({ t1 = 500, t2 = 500 }, counts)
  end)

  describe("poll", function()
    it("says what a socket is ready for", function()
      local a, b = pair(zmq.PAIR, zmq.PAIR)
      assert.equal(zmq.POLLOUT, b:poll(zmq.POLLIN + zmq.POLLOUT, nil))
      assert.equal(0, b:poll(0))
      assert.equal(0, b:poll(0.01))
      a:send("x")
      assert.equal(zmq.POLLIN, b:poll())
      assert.equal(zmq.POLLIN, b:poll(1))
      assert.equal(zmq.POLLIN + zmq.POLLOUT, b:poll(zmq.POLLIN + zmq.POLLOUT, 0))
      assert.equal("x", b:receive(0))
    end)

    it("waits for sockets and descriptors", function()
      local a, b = pair(zmq.PAIR, zmq.PAIR)
      local left, right = socketpair()
      finally(function()
        left:close()
        right:close()
      end)
      local poller = zmq.Poller()
      poller:register(b, zmq.POLLIN)
      poller:register(right, zmq.POLLIN)
      assert.same({}, poller:poll(0))
      assert.same({}, poller:poll(0.01))
      moonlet.spawn_later(0.01, a.send, a, "x")
      assert.same({ { b, zmq.POLLIN } }, poller:poll())
      b:receive()
      moonlet.spawn_later(0.01, left.send, left, "y")
      assert.same({ { right, zmq.POLLIN } }, poller:poll(5))
      a:send("z")
      assert.same({ { b, zmq.POLLIN }, { right, zmq.POLLIN } }, poller:poll(5))
      poller:register(b, zmq.POLLIN + zmq.POLLOUT)
      assert.same({ b, zmq.POLLIN + zmq.POLLOUT }, poller:poll(0)[1])
      poller:unregister(right)
      assert.equal(1, #poller:poll(0))
      assert.matches("not registered", support.error_of(poller.unregister, poller, right))
      b:close()
      assert.matches("bad socket registered: <zmq.PAIR", support.error_of(poller.poll, poller))
    end)

    it("is told of what another greenlet's send has noticed", function()
      local a, b = pair(zmq.DEALER, zmq.DEALER)
      for _ = 1, 50 do
        local pollers = {}
        for i = 1, 2 do
          pollers[i] = moonlet.spawn(b.poll, b)
        end
        moonlet.sleep(0)
        a:send("x")
        b:events()
        moonlet.joinall(pollers)
        assert.equal(zmq.POLLIN, pollers[1].value)
        assert.equal(zmq.POLLIN, pollers[2].value)
        b:receive()
      end
    end)

    it("can be done by moonlet.select, for reading", function()
      local a, b = pair(zmq.PAIR, zmq.PAIR)
      a:send("x")
      assert.same({ b }, (select({ b }, {}, {})))
      b:receive()
      assert.same({}, (select({ b }, {}, {}, 0)))
    end)
  end)

  describe("proxy", function()
    it("passes messages on in both directions until a socket is closed", function()
      local clients, frontend = pair(zmq.DEALER, zmq.ROUTER)
      local backend, workers = pair(zmq.DEALER, zmq.REP)
      local capture, captured = pair(zmq.PUSH, zmq.PULL)
      local proxy = moonlet.spawn(function()
        return { zmq.proxy(frontend, backend, capture) }
      end)
      local worker = moonlet.spawn(function()
        for message in function() return (workers:receive()) end do
          workers:send(message:upper())
        end
      end)
      for i = 1, 300 do
        clients:send { "", "hello " .. i }
      end
      for i = 1, 300 do
        assert.same({ "", "HELLO " .. i }, { clients:receive() })
      end
      assert.equal(600, #captured:receive_batch(1000))
      frontend:close()
      assert.same({ nil, "closed" }, proxy:get())
      workers:close()
      worker:join()
    end)

    it("waits for room, and can be killed", function()
      local source, from = pair(zmq.PUSH, zmq.PULL)
      local to, sink = pair(zmq.PUSH, zmq.PULL, { [zmq.SNDHWM] = 2, [zmq.RCVHWM] = 2 })
      local proxy = moonlet.spawn(zmq.proxy, from, to)
      local sender = moonlet.spawn(function()
        for i = 1, 500 do
          source:send { "part", tostring(i) }
        end
      end)
      moonlet.sleep(0.01)
      for i = 1, 500 do
        assert.same({ "part", tostring(i) }, { sink:receive() })
      end
      sender:join()
      proxy:kill()
      assert.is_true(proxy:dead())
    end)
  end)

  it("tells a monitor of what happens to connections", function()
    local server, client = context:socket(zmq.REP), context:socket(zmq.REQ)
    local endpoint = server:bind("tcp://127.0.0.1:*")
    local monitor = client:monitor(zmq.EVENT_CONNECTED + zmq.EVENT_DISCONNECTED +
                                   zmq.EVENT_MONITOR_STOPPED)
    assert.same({ nil, "timeout" }, { monitor:receive_event(0.01) })
    client:connect(endpoint)
    local event, fd, where = monitor:receive_event()
    assert.equal(zmq.EVENT_CONNECTED, event)
    assert.equal("integer", math.type(fd))
    assert.equal(endpoint, where)
    server:close()
    assert.equal(zmq.EVENT_DISCONNECTED, (monitor:receive_event()))
    client:close()
    assert.equal(zmq.EVENT_MONITOR_STOPPED, (monitor:receive_event()))
  end)
end)
