-- moonlet.zmq against pyzmq, which runs beside the spec as another process.

local moonlet = require "moonlet"
local peer = require "support.peer"
local support = require "support"
local zmq = require "moonlet.zmq"

local PRELUDE = [==[
import sys, zmq
context = zmq.Context()
endpoint = sys.argv[1]
]==]

local REPLIER = PRELUDE .. [==[
socket = context.socket(zmq.REP)
socket.connect(endpoint)
while True:
    parts = socket.recv_multipart()
    socket.send_multipart([part.upper() for part in parts])
    if parts == [b"end"]:
        break
socket.close()
context.term()
]==]

local REQUESTER = PRELUDE .. [==[
socket = context.socket(zmq.REQ)
socket.connect(endpoint)
for i in range(200):
    socket.send(b"request %d" % i)
    assert socket.recv() == b"REQUEST %d" % i
big = b"x" * 3000000
socket.send_multipart([big, b"", b"y"])
assert socket.recv_multipart() == [big.upper(), b"", b"Y"]
print("done")
]==]

local PUBLISHER = PRELUDE .. [==[
socket = context.socket(zmq.XPUB)
port = socket.bind_to_random_port("tcp://127.0.0.1")
print("port", port)
assert socket.recv() == b"\x01even"
for i in range(1000):
    socket.send_multipart([b"even" if i % 2 == 0 else b"odd", b"%d" % i])
assert socket.recv() == b"\x00even"
print("done")
]==]

local SUBSCRIBER = PRELUDE .. [==[
socket = context.socket(zmq.SUB)
socket.setsockopt(zmq.SUBSCRIBE, b"a")
socket.connect(endpoint)
for i in range(1000):
    assert socket.recv() == b"a%d" % i
print("done")
]==]

local DEALER = PRELUDE .. [==[
socket = context.socket(zmq.DEALER)
socket.setsockopt(zmq.IDENTITY, sys.argv[2].encode())
socket.connect(endpoint)
for i in range(100):
    socket.send_multipart([b"work", b"%d" % i])
for i in range(100):
    assert socket.recv_multipart() == [b"result", b"%d" % (i * i)]
print("done")
]==]

local ROUTER = PRELUDE .. [==[
socket = context.socket(zmq.ROUTER)
port = socket.bind_to_random_port("tcp://127.0.0.1")
print("port", port)
for i in range(100):
    identity, body = socket.recv_multipart()
    socket.send_multipart([identity, body[::-1]])
print("done", identity.decode())
]==]

local CURVE_CLIENT = PRELUDE .. [==[
socket = context.socket(zmq.REQ)
socket.curve_serverkey = sys.argv[2].encode()
socket.curve_publickey = sys.argv[3].encode()
socket.curve_secretkey = sys.argv[4].encode()
socket.connect(endpoint)
socket.send(b"secret")
assert socket.recv() == b"SECRET"
print("done")
]==]

local CURVE_SERVER = PRELUDE .. [==[
socket = context.socket(zmq.REP)
socket.curve_server = True
socket.curve_secretkey = sys.argv[2].encode()
port = socket.bind_to_random_port("tcp://127.0.0.1")
print("port", port)
socket.send(socket.recv()[::-1])
socket.close()
context.term()
print("done")
]==]

describe("moonlet.zmq with pyzmq", function()
  local context

  before_each(function()
    context = zmq.Context()
  end)

  after_each(function()
    context:destroy(0)
  end)

  local function serve(type, options)
    local socket = context:socket(type)
    for option, value in pairs(options or {}) do
      assert.is_true(socket:setsockopt(option, value))
    end
    return socket, assert(socket:bind("tcp://127.0.0.1:*"))
  end

  local function answer(socket)
    return moonlet.spawn(function()
      for parts in function() return (socket:receive_multipart()) end do
        for i, part in ipairs(parts) do
          parts[i] = part:upper()
        end
        socket:send(parts)
      end
    end)
  end

  local function expect_success(other, output)
    local status, printed = other:finish()
    assert.equal((output or "done\n") .. "exit 0\n", printed)
    assert.equal(0, status)
  end

  it("REQ asks its REP", function()
    local socket, endpoint = serve(zmq.REQ)
    local other <close> = peer.python(REPLIER, endpoint)
    for i = 1, 200 do
      assert.is_true(socket:send { "a" .. i, "b" })
      assert.same({ "A" .. i, "B" }, { socket:receive(10) })
    end
    local big = ("x"):rep(3000000)
    socket:send(big)
    assert.is_true(big:upper() == socket:receive(10))
    socket:send("end")
    assert.equal("END", socket:receive(10))
    expect_success(other, "")
  end)

  it("REP answers its REQ", function()
    local socket, endpoint = serve(zmq.REP)
    local replier = answer(socket)
    local other <close> = peer.python(REQUESTER, endpoint)
    expect_success(other)
    socket:close()
    replier:join()
  end)

  it("SUB hears its XPUB", function()
    local socket = context:socket(zmq.SUB)
    local other <close> = peer.python(PUBLISHER, "-")
    socket:subscribe("even")
    socket:connect("tcp://127.0.0.1:" .. other:expect("port (%d+)"))
    for i = 0, 998, 2 do
      assert.same({ "even", tostring(i) }, { socket:receive(10) })
    end
    socket:unsubscribe("even")
    local _, printed = other:finish()
    assert.matches("done\nexit 0\n$", printed)
  end)

  it("XPUB is heard by its SUB", function()
    local socket, endpoint = serve(zmq.XPUB)
    local other <close> = peer.python(SUBSCRIBER, endpoint)
    assert.equal("\1a", socket:receive(10))
    for i = 0, 999 do
      socket:send("b" .. i)
      socket:send("a" .. i)
    end
    expect_success(other)
  end)

  it("ROUTER serves its DEALERs", function()
    local socket, endpoint = serve(zmq.ROUTER)
    local others = {}
    for i = 1, 3 do
      others[i] = peer.python(DEALER, endpoint, "dealer" .. i)
    end
    for _ = 1, 300 do
      local identity, kind, number = socket:receive(10)
      assert.matches("^dealer%d$", identity)
      assert.equal("work", kind)
      socket:send { identity, "result", tostring((number * number) // 1 | 0) }
    end
    for i = 1, 3 do
      local other <close> = others[i]
      expect_success(other)
    end
  end)

  it("DEALER talks to its ROUTER, sending and receiving at once", function()
    local socket = context:socket(zmq.DEALER)
    local other <close> = peer.python(ROUTER, "-")
    socket:setsockopt(zmq.ROUTING_ID, "me")
    socket:connect("tcp://127.0.0.1:" .. other:expect("port (%d+)"))
    local sender = moonlet.spawn(function()
      for i = 100, 199 do
        socket:send(tostring(i))
      end
    end)
    for i = 100, 199 do
      assert.equal(tostring(i):reverse(), socket:receive(10))
    end
    sender:join()
    local _, printed = other:finish()
    assert.matches("done me\nexit 0\n$", printed)
  end)

  describe("under CURVE", function()
    local public, secret, client_public, client_secret

    before_each(function()
      public, secret = zmq.curve_keypair()
      client_public, client_secret = zmq.curve_keypair()
    end)

    -- Lets in who has one of the keys, as ZAP has it; the keys of all who asked go to `asked`.
    local function authenticate(allowed, asked)
      local zap = context:socket(zmq.REP)
      assert(zap:bind("inproc://zeromq.zap.01"))
      return moonlet.spawn(function()
        while true do
          local version, id, _, _, _, mechanism, key = zap:receive()
          if not version then
            return
          end
          table.insert(asked, mechanism .. " " .. zmq.z85_encode(key))
          local code = zmq.z85_encode(key) == allowed and "200" or "400"
          zap:send { version, id, code, "", "user", "" }
        end
      end)
    end

    it("REP answers its REQ", function()
      local socket, endpoint = serve(zmq.REP, { [zmq.CURVE_SERVER] = true,
                                                [zmq.CURVE_SECRETKEY] = secret })
      local replier = answer(socket)
      local other <close> = peer.python(CURVE_CLIENT, endpoint, public, client_public,
                                        client_secret)
      expect_success(other)
      socket:close()
      replier:join()
    end)

    it("REQ asks its REP", function()
      local socket = context:socket(zmq.REQ)
      local other <close> = peer.python(CURVE_SERVER, "-", secret)
      socket:setsockopt(zmq.CURVE_SERVERKEY, public)
      socket:setsockopt(zmq.CURVE_PUBLICKEY, client_public)
      socket:setsockopt(zmq.CURVE_SECRETKEY, client_secret)
      socket:connect("tcp://127.0.0.1:" .. other:expect("port (%d+)"))
      socket:send("abc")
      assert.equal("cba", socket:receive(10))
      local _, printed = other:finish()
      assert.matches("done\nexit 0\n$", printed)
    end)

    it("lets in only whose key is known, and tells the monitor of others", function()
      local asked = {}
      local authenticator = authenticate(client_public, asked)
      local socket = context:socket(zmq.REP)
      local monitor = socket:monitor(zmq.EVENT_HANDSHAKE_FAILED_AUTH)
      socket:setsockopt(zmq.ZAP_DOMAIN, "spec")
      socket:setsockopt(zmq.CURVE_SERVER, true)
      socket:setsockopt(zmq.CURVE_SECRETKEY, secret)
      local endpoint = socket:bind("tcp://127.0.0.1:*")
      local replier = answer(socket)

      local stranger = context:socket(zmq.REQ)
      local stranger_public, stranger_secret = zmq.curve_keypair()
      stranger:setsockopt(zmq.CURVE_SERVERKEY, public)
      stranger:setsockopt(zmq.CURVE_PUBLICKEY, stranger_public)
      stranger:setsockopt(zmq.CURVE_SECRETKEY, stranger_secret)
      stranger:connect(endpoint)
      stranger:send("let me in")
      assert.equal(zmq.EVENT_HANDSHAKE_FAILED_AUTH, (monitor:receive_event(10)))
      assert.same({ nil, "timeout" }, { stranger:receive(0.01) })
      stranger:close(0)

      local other <close> = peer.python(CURVE_CLIENT, endpoint, public, client_public,
                                        client_secret)
      expect_success(other)
      assert.equal("CURVE " .. stranger_public, asked[1])
      assert.equal("CURVE " .. client_public, asked[#asked])
      context:destroy(0)
      moonlet.joinall { authenticator, replier }
    end)
  end)

  it("notices a peer that was killed, through its monitor", function()
    local socket, endpoint = serve(zmq.REP)
    local monitor = socket:monitor(zmq.EVENT_DISCONNECTED)
    local other <close> = peer.python(PRELUDE .. [[
import os
socket = context.socket(zmq.REQ)
socket.connect(endpoint)
socket.send(b"%d" % os.getpid())
socket.recv()
]], endpoint)
    support.kill("KILL", tonumber((socket:receive(10))))
    assert.equal(zmq.EVENT_DISCONNECTED, (monitor:receive_event(10)))
    other:finish()
  end)
end)
