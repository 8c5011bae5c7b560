-- What sockets and contexts do, without anybody waiting.

local moonlet = require "moonlet"
local support = require "support"
local zmq = require "moonlet.zmq"

describe("moonlet.zmq", function()
  local context

  before_each(function()
    context = zmq.Context()
  end)

  after_each(function()
    context:destroy(0)
  end)

  local endpoints = 0

  -- A new pair of connected sockets.
  local function pair(type, other_type)
    endpoints = endpoints + 1
    local a, b = context:socket(type), context:socket(other_type)
    assert.truthy(a:bind("inproc://spec" .. endpoints))
    assert.is_true(b:connect("inproc://spec" .. endpoints))
    return a, b
  end

  it("carries messages of any bytes and length over every transport", function()
    local path = os.tmpname()
    finally(function()
      os.remove(path)
    end)
    for _, endpoint in ipairs { "tcp://127.0.0.1:*", "ipc://" .. path, "inproc://any" } do
      local a, b = context:socket(zmq.PAIR), context:socket(zmq.PAIR)
      assert.is_true(b:connect((assert(a:bind(endpoint)))))
      for _, message in ipairs { "", "x", "a\0b\255", ("y"):rep(33), ("z"):rep(3000000) } do
        assert.is_true(a:send(message))
        assert.is_true(message == b:receive())
      end
      a:close()
      b:close()
    end
  end)

  it("sends parts in one call or one by one, and receives them as results", function()
    local a, b = pair(zmq.PAIR, zmq.PAIR)
    a:send { "one", "", "three" }
    assert.same({ "one", "", "three" }, { b:receive() })
    a:send("one", zmq.SNDMORE)
    a:send("two")
    assert.same({ "one", "two" }, { b:receive() })
    a:send { "alone" }
    assert.same({ "alone" }, { b:receive() })
    a:send { 1, 2.5 }
    assert.same({ "1", "2.5" }, { b:receive() })
  end)

  it("receives parts in a table, however many", function()
    local a, b = pair(zmq.PAIR, zmq.PAIR)
    local parts = {}
    for i = 1, 500 do
      parts[i] = tostring(i)
    end
    a:send(parts)
    assert.same(parts, b:receive_multipart())
    a:send(parts)
    assert.same(parts, { b:receive() })
    a:send("x")
    assert.same({ "x" }, b:receive_multipart())
  end)

  it("receives several messages in one call", function()
    local a, b = pair(zmq.PUSH, zmq.PULL)
    for i = 1, 5 do
      a:send("m" .. i)
    end
    a:send { "p", "q" }
    assert.same({ "m1", "m2" }, b:receive_batch(2))
    assert.same({ "m3", "m4", "m5", { "p", "q" } }, b:receive_batch())
    assert.same({ nil, "timeout" }, { b:receive_batch(1, 0) })
  end)

  it("returns nil and timeout where it must not wait", function()
    local a, b = pair(zmq.PAIR, zmq.PAIR)
    assert.same({ nil, "timeout" }, { b:receive(0) })
    assert.same({ nil, "timeout" }, { b:receive_multipart(-1) })
    local lone = context:socket(zmq.PUSH)
    assert.same({ nil, "timeout" }, { lone:send("x", 0, 0) })
    assert.same({ nil, "timeout" }, { lone:send("x", zmq.DONTWAIT) })
    assert.same({ nil, "timeout" }, { lone:send({ "x", "y" }, zmq.DONTWAIT) })
    a:send("there", 0, 0)
    assert.equal("there", b:receive(0))
  end)

  it("returns nil, a message and an errno for what fails", function()
    local a, b = context:socket(zmq.REP), context:socket(zmq.REP)
    assert.same({ nil, "Invalid argument", 22 }, { a:bind("nonsense") })
    local endpoint = a:bind("tcp://127.0.0.1:*")
    assert.matches("^tcp://127%.0%.0%.1:%d+$", endpoint)
    assert.same({ nil, "Address already in use", 98 }, { b:bind(endpoint) })
    local _, message, errno = a:send("an answer to nothing")
    assert.equal("Operation cannot be accomplished in current state", message)
    assert.equal(math.type(errno), "integer")
    assert.same({ nil, "Operation not supported", 95 }, { context:socket(zmq.PUSH):receive() })
    assert.same({ nil, "Invalid argument", 22 }, { a:setsockopt(-1, 1) })
    assert.same({ nil, "Invalid argument", 22 }, { a:getsockopt(-1) })
    assert.is_true(a:unbind(endpoint))
    support.eventually(function()
      return b:bind(endpoint)
    end)
    assert.is_nil((b:disconnect("tcp://127.0.0.1:1")))
  end)

  it("raises for misuse", function()
    local socket = context:socket(zmq.PAIR)
    local function misuse(pattern, f, ...)
      assert.matches(pattern, support.error_of(f, ...))
    end
    misuse("bad argument #1 to 'send'", function() socket:send(nil) end)
    misuse("bad argument #1 to 'send'", function() socket:send({}) end)
    misuse("part 2 is a table, not a string", function() socket:send { "x", {} } end)
    misuse("bad argument #1 to 'receive'", function() socket:receive("soon") end)
    misuse("bad argument #1 to 'receive_batch'", function() socket:receive_batch(0) end)
    misuse("moonlet.zmq.ZSocket expected", socket.receive, context)
    misuse("moonlet.zmq.ZSocket expected", socket.receive, io.stdout)
    misuse("moonlet.zmq.ZSocket expected", socket.receive, 1)
    misuse("not a type of socket", context.socket, context, 99)
    misuse("from 0 to 1024", zmq.Context, -1)
    misuse("out of range", function() socket:setsockopt(zmq.LINGER, 1 << 40) end)
    misuse("bad argument #2 to 'setsockopt'", function() socket:setsockopt(zmq.LINGER, "x") end)
  end)

  it("sets and gets options of each kind", function()
    local socket = context:socket(zmq.DEALER)
    for option, value in pairs { [zmq.LINGER] = 250, [zmq.SNDHWM] = 7, [zmq.AFFINITY] = 3,
                                 [zmq.MAXMSGSIZE] = 1 << 40, [zmq.ROUTING_ID] = "me\0",
                                 [zmq.PLAIN_USERNAME] = "user" } do
      assert.is_true(socket:setsockopt(option, value))
      assert.equal(value, socket:getsockopt(option))
    end
    assert.is_true(socket:setsockopt(zmq.IPV6, true))
    assert.equal(1, socket:getsockopt(zmq.IPV6))
    assert.equal(zmq.DEALER, socket:getsockopt(zmq.TYPE))
    assert.is_true(socket:setsockopt(zmq.PLAIN_USERNAME, nil))
    assert.equal(zmq.NULL, socket:getsockopt(zmq.MECHANISM))
    assert.is_true(context:set(zmq.MAX_SOCKETS, 5))
    assert.equal(5, context:get(zmq.MAX_SOCKETS))
  end)

  it("filters by prefix", function()
    local publisher, subscriber = pair(zmq.XPUB, zmq.SUB)
    assert.is_true(subscriber:subscribe("a"))
    assert.equal("\1a", publisher:receive())
    publisher:send("b1")
    publisher:send("a1")
    assert.equal("a1", subscriber:receive())
    assert.is_true(subscriber:unsubscribe("a"))
    assert.equal("\0a", publisher:receive())
    publisher:send("a2")
    assert.same({ nil, "timeout" }, { subscriber:receive(0.01) })
  end)

  it("knows peers of a router by their identities", function()
    local router, dealer = pair(zmq.ROUTER, zmq.DEALER)
    assert.is_true(router:setsockopt(zmq.ROUTER_MANDATORY, 1))
    assert.same({ nil, "Host unreachable", 113 }, { router:send { "nobody", "hi" } })
    dealer:send("hi")
    local identity, text = router:receive()
    assert.equal("hi", text)
    router:send { identity, "hello" }
    assert.equal("hello", dealer:receive())
  end)

  it("makes keys of CURVE, and Z85", function()
    assert.is_true(zmq.has("curve"))
    assert.is_false(zmq.has("telepathy"))
    local public, secret = zmq.curve_keypair()
    assert.equal(40, #public)
    assert.equal(public, zmq.curve_public(secret))
    assert.equal(32, #zmq.z85_decode(public))
    assert.equal(public, zmq.z85_encode(zmq.z85_decode(public)))
    assert.same({ nil, "Invalid argument", 22 }, { zmq.z85_decode("abc") })
    assert.matches("multiple of 4", support.error_of(zmq.z85_encode, "abc"))
    local socket = context:socket(zmq.REQ)
    assert.is_true(socket:setsockopt(zmq.CURVE_PUBLICKEY, public))
    assert.equal(public, socket:getsockopt(zmq.CURVE_PUBLICKEY))
    assert.is_true(socket:setsockopt(zmq.CURVE_SERVERKEY, zmq.z85_decode(public)))
    assert.equal(public, socket:getsockopt(zmq.CURVE_SERVERKEY))
    assert.matches("^%d+%.%d+%.%d+$", zmq.version())
  end)

  it("closes sockets, twice too and as <close> variables, and says so", function()
    local kept
    do
      local socket <close> = context:socket(zmq.PUSH)
      kept = socket
      assert.matches("^<zmq.PUSH socket 0x%x+: open>$", tostring(socket))
      assert.is_false(socket:closed())
      assert.equal(context, socket:context())
    end
    assert.is_true(kept:closed())
    kept:close()
    kept:close(1)
    assert.matches(": closed>$", tostring(kept))
    assert.equal(-1, kept:getfd())
    assert.equal(0, kept:events())
    assert.is_false(kept:dirty())
    for _, call in ipairs { { "send", "x" }, { "receive" }, { "poll" }, { "bind", "inproc://x" },
                            { "connect", "inproc://x" }, { "getsockopt", zmq.TYPE },
                            { "setsockopt", zmq.LINGER, 1 }, { "subscribe", "" },
                            { "monitor" }, { "receive_event" }, { "receive_batch" } } do
      assert.same({ nil, "closed" }, { kept[call[1]](kept, table.unpack(call, 2)) })
    end
  end)

  it("ends contexts, twice too, with all of their sockets", function()
    local other = zmq.Context()
    local socket = other:socket(zmq.PUSH)
    assert.matches("^<zmq context 0x%x+: open, 1 sockets>$", tostring(other))
    assert.is_true(other:term())
    assert.is_true(other:term())
    assert.is_true(other:closed())
    assert.is_true(socket:closed())
    assert.matches("^<zmq context 0x%x+: closed, 0 sockets>$", tostring(other))
    assert.same({ nil, "Context was terminated" }, { (select(1, other:socket(zmq.PUSH))),
                                                    (select(2, other:socket(zmq.PUSH))) })
    assert.is_nil((other:set(zmq.MAX_SOCKETS, 5)))
    assert.is_nil((other:get(zmq.MAX_SOCKETS)))
  end)

  it("frees what was forgotten", function()
    for _ = 1, 3 do
      do
        local forgotten = zmq.Context()
        local socket = forgotten:socket(zmq.REP)
        socket:bind("tcp://127.0.0.1:*")
        socket:receive(0.001)
      end
      collectgarbage()
      collectgarbage()
    end
  end)

  it("gives the others a turn when messages never run out", function()
    local a, b = pair(zmq.PUSH, zmq.PULL)
    local turns = 0
    local other = moonlet.spawn(function()
      while true do
        turns = turns + 1
        moonlet.sleep(0)
      end
    end)
    for _ = 1, 1000 do
      a:send("x")
      b:receive()
    end
    other:kill()
    assert.is_true(turns >= 5)
  end)
end)
