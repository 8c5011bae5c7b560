-- Actors of other processes.

local actor = require "moonlet.actor"
local moonlet = require "moonlet"
local peer = require "support.peer"
local socket = require "moonlet.socket"
local support = require "support"
local zmq = require "moonlet.zmq"

-- A process with an actor "worker", which does what messages say.
local WORKER = [==[
local actor = require "moonlet.actor"
local moonlet = require "moonlet"
io.stdout:setvbuf "no"
moonlet.set_error_handler(function() end)
local jobs = {}
function jobs.echo(_, call, ...)
  call:reply(...)
end
function jobs.pid(_, call)
  local file = io.open("/proc/self/stat")
  call:reply(tonumber(file:read("a"):match("^%d+")))
end
function jobs.fail()
  error("broken", 0)
end
function jobs.refuse(_, call)
  call:reply(print)
end
function jobs.spawn(_, call)
  call:reply(actor.spawn(function(self)
    for message, inner in self:messages() do
      jobs[message[1]](self, inner, table.unpack(message, 2))
    end
  end))
end
function jobs.tell(_, call, other, message)
  local ok, reason = other:send(message)
  if call then
    call:reply(ok, reason)
  end
end
function jobs.ask(_, call, other, message)
  call:reply(other:call(message, 5))
end
function jobs.monitor(self, call, other)
  self:monitor(other)
  call:reply(true)
end
function jobs.silence() end
local function work(self)
  for message, call in self:messages() do
    if type(message) == "table" and message.is then
      print("down", message.reason)
    else
      jobs[message[1]](self, call, table.unpack(message, 2))
    end
  end
end
actor.spawn(actor.supervisor { { name = "worker", start = work } })
moonlet.sleep(0)
local listener = assert(actor.listen(arg[1] or "tcp://127.0.0.1:*"))
print("at " .. listener.endpoint)
moonlet.sleep(20)
]==]

describe("moonlet.actor across processes", function()
  local process, connection, worker

  -- Starts a worker's process and connects to it.
  local function start(endpoint)
    process = peer.script(WORKER, endpoint)
    endpoint = process:expect("at (%S+)\n")
    connection = assert(actor.connect(endpoint))
    worker = connection:actor("worker")
    finally(function()
      local id
      support.eventually(function() -- a worker that has failed is started anew
        id = worker:call({ "pid" }, 5)
        return id
      end)
      assert(actor.shutdown(5))
      support.kill("KILL", id)
      process:__close()
    end)
    return endpoint
  end

  local function pid()
    return assert(worker:call({ "pid" }, 5))
  end

  -- An actor here, which notes what it is sent and doubles numbers.
  local function noter()
    local notes = {}
    local which = actor.spawn(function(self)
      for message, call in self:messages() do
        if call and type(message) == "table" then
          self[message[1]](self, message[2])
          call:reply()
        elseif call then
          call:reply(message * 2)
        elseif type(message) == "table" and message.is then
          table.insert(notes, message.reason or "returned")
        else
          table.insert(notes, message)
        end
      end
    end)
    return which, notes
  end

  it("carries messages and replies of all kinds", function()
    start()
    assert.is_true(connection:wait(5))
    assert.same({ n = 0 }, table.pack(worker:call({ "echo" }, 5)))
    local shared = { 1, 2 }
    local values = { true, 1, 2.5, -7, "a\0b", { x = { shared, shared } }, math.maxinteger }
    assert.same(values, { worker:call({ "echo", table.unpack(values) }, 5) })
    assert.is_true(worker:send { "silence" })
    local calls = {}
    for i = 1, 200 do
      calls[i] = moonlet.spawn(worker.call, worker, { "echo", i }, 5)
    end
    for i = 1, 200 do
      assert.equal(i, calls[i]:get())
    end
  end)

  it("says which value cannot be sent", function()
    start()
    assert.equal("bad argument #1 to 'call' (value at [2].f: functions cannot be sent)",
      support.error_of(worker.call, worker, { "echo", { f = print } }):match("bad.*"))
    assert.matches("bad argument #1 to 'send' %(coroutines cannot be sent%)",
      support.error_of(worker.send, worker, coroutine.create(print)))
    assert.matches("tables with a metatable cannot be sent",
      support.error_of(worker.send, worker, { setmetatable({}, {}) }))
    assert.matches("bad argument #1 to 'send'", support.error_of(worker.send, worker))
    assert.matches("bad argument #1 to 'actor'", support.error_of(connection.actor, connection))
    local _, why, reason = worker:call({ "refuse" }, 5)
    assert.equal("dead", why)
    assert.matches("functions cannot be sent", reason)
  end)

  it("tells of actors that are not there, and of ends", function()
    start()
    local nobody = connection:actor("nobody")
    assert.same({ nil, "dead" }, { nobody:call("x", 5) })
    assert.same({ true, "dead" }, { nobody:wait(5) })
    local other = worker:call({ "spawn" }, 5)
    assert.is_false(other:wait(0.01))
    local waiting = moonlet.spawn(function()
      return { other:wait(5) }
    end)
    moonlet.sleep(0)
    assert.same({ nil, "dead", "broken" }, { other:call({ "fail" }, 5) })
    assert.same({ true, "broken" }, waiting:get())
    other = worker:call({ "spawn" }, 5)
    assert.is_true(other:kill(5))
    assert.same({ nil, "dead" }, { other:call({ "echo" }, 5) })
    assert.same({ nil, "timeout" }, { worker:call({ "silence" }, 0.02) })
  end)

  it("sends actors themselves, who can be called back and monitored", function()
    start()
    local me, notes = noter()
    assert.is_true(worker:call({ "tell", me, "hello" }, 5))
    support.eventually(function()
      return notes[1] == "hello"
    end)
    assert.equal(14, worker:call({ "ask", me, 7 }, 5))
    assert.equal(me, worker:call({ "echo", me }, 5))
    local other = worker:call({ "spawn" }, 5)
    assert.equal(other, worker:call({ "echo", other }, 5))
    assert.same({ "deep", { other } }, { other:call({ "echo", "deep", { other } }, 5) })
    assert.is_true(worker:call({ "monitor", me }, 5))
    me:kill()
    process:expect("down\tkilled")
  end)

  it("notices a process that was killed", function()
    local endpoint = start()
    local me, notes = noter()
    me:call { "monitor", worker }
    local waiting = moonlet.spawn(function()
      return { worker:call { "silence" } }
    end)
    local id = pid()
    support.kill("KILL", id)
    assert.same({ nil, "lost" }, waiting:get())
    support.eventually(function()
      return notes[1] == "lost"
    end)
    assert.matches("^<Connection to tcp://.*: lost>$", tostring(connection))
    assert.same({ nil, "lost" }, { worker:send { "echo" } })
    assert.same({ nil, "lost" }, { worker:call({ "echo" }, 5) })
    assert.same({ true, "lost" }, { worker:wait(5) })
    me:kill()

    local again = peer.script(WORKER, endpoint)
    again:expect("at ")
    assert.is_true(connection:wait(10))
    assert.equal("back", worker:call({ "echo", "back" }, 5))
    process:finish()
    process:__close()
    process = again
  end)

  it("notices a process that says nothing any longer", function()
    start()
    local id = pid()
    local waiting = moonlet.spawn(function()
      return { worker:call { "silence" } }
    end)
    moonlet.sleep(0.01)
    support.kill("STOP", id)
    local ok, result = pcall(waiting.get, waiting, 15)
    support.kill("CONT", id)
    assert.is_true(ok)
    assert.same({ nil, "lost" }, result)
    assert.is_true(connection:wait(10))
  end)

  it("ends with what it is linked to", function()
    start()
    local far = worker:call({ "spawn" }, 5)
    local near = actor.spawn(function(self)
      self:link(far)
      self:receive()
    end)
    moonlet.sleep(0.05)
    far:send { "fail" }
    assert.same({ true, "killed" }, { near:wait(5) })

    far = worker:call({ "spawn" }, 5)
    near = actor.spawn(function(self)
      self:link(far)
      self:receive()
    end)
    moonlet.sleep(0.05)
    near:kill()
    assert.is_true(far:wait(5))
  end)

  it("tells a listener's actors of peers that are gone", function()
    local listener = assert(actor.listen("tcp://127.0.0.1:*"))
    local me, notes = noter()
    actor.register("me", me)
    local other = peer.script([==[
      local actor = require "moonlet.actor"
      local moonlet = require "moonlet"
      local far = actor.connect(arg[1]):actor("me")
      local mine = actor.spawn(function(self) self:receive() end)
      far:call({ "monitor", mine }, 5)
      print(far:call(21, 5))
      os.exit(0, false)
    ]==], listener.endpoint)
    support.eventually(function()
      return notes[1] == "lost"
    end)
    local _, output = other:finish()
    assert.equal("42\nexit 0\n", output)
    other:__close()
    me:kill()
    assert.is_true(actor.shutdown(5))
    assert.matches("^<Listener at tcp://127.0.0.1:%d+: closed>$", tostring(listener))
  end)

  it("passes an actor of a third process on", function()
    local endpoint = start()
    local second = peer.script(WORKER)
    local there = assert(actor.connect(second:expect("at (%S+)\n"))):actor("worker")
    local id = there:call({ "pid" }, 5)
    assert.equal("from afar", there:call({ "ask", worker, { "echo", "from afar" } }, 5))
    assert.equal(connection, actor.connect(endpoint))
    support.kill("KILL", id)
    second:__close()
  end)

  it("forgets calls whose caller waits no longer", function()
    local listener = assert(actor.listen("tcp://127.0.0.1:*"))
    local me = actor.spawn(function(self)
      local _, call = self:receive()
      moonlet.sleep(0.1)
      assert.is_false(call:reply(1))
      self:receive()
    end)
    actor.register("me", me)
    local remote = actor.connect(listener.endpoint):actor("me")
    assert.same({ nil, "timeout" }, { remote:call("x", 0.03) })
    support.eventually(function()
      return not next(me._calls)
    end)
    assert.is_false(me:wait(0.15))
    me:kill()
    assert.is_true(actor.shutdown(5))
  end)

  it("waits for a process that is not there yet", function()
    local taken = assert(socket.bind("127.0.0.1", 0))
    local endpoint = "tcp://127.0.0.1:" .. select(2, taken:getsockname())
    taken:close()
    local early = assert(actor.connect(endpoint))
    assert.is_false(early:wait(0.01))
    assert.same({ nil, "timeout" }, { early:actor("me"):call("x", 0.01) })
    local calling = moonlet.spawn(function()
      return early:actor("me"):call(4, 10)
    end)
    local me = noter()
    actor.register("me", me)
    local listener = assert(actor.listen(endpoint))
    assert.equal(8, calling:get())
    listener:close()
    listener:close()
    early:close()
    early:close()
    assert.same({ nil, "closed" }, { early:actor("me"):send(1) })
    me:kill()
    assert.is_true(actor.shutdown(5))
  end)

  it("returns why it cannot listen or connect", function()
    assert.same({ nil, "Invalid argument", 22 }, { actor.listen("nonsense") })
    assert.same({ nil, "Invalid argument", 22 }, { actor.connect("nonsense") })
    assert.is_true(actor.shutdown(5))
    assert.is_true(actor.shutdown())
  end)

  it("keeps strangers out by CURVE", function()
    local public, secret = zmq.curve_keypair()
    local listener = assert(actor.listen("tcp://127.0.0.1:*", function(bare)
      bare:setsockopt(zmq.CURVE_SERVER, true)
      bare:setsockopt(zmq.CURVE_SECRETKEY, secret)
    end))
    local me = noter()
    actor.register("me", me)
    local stranger = assert(actor.connect(listener.endpoint))
    assert.same({ nil, "timeout" }, { stranger:actor("me"):call(1, 0.1) })
    stranger:close()
    local friend = assert(actor.connect(listener.endpoint, function(bare)
      local own_public, own_secret = zmq.curve_keypair()
      bare:setsockopt(zmq.CURVE_SERVERKEY, public)
      bare:setsockopt(zmq.CURVE_PUBLICKEY, own_public)
      bare:setsockopt(zmq.CURVE_SECRETKEY, own_secret)
    end))
    assert.equal(2, friend:actor("me"):call(1, 5))
    me:kill()
    assert.is_true(actor.shutdown(5))
  end)

  it("survives messages that are none", function()
    local errors = support.uncaught()
    local listener = assert(actor.listen("tcp://127.0.0.1:*"))
    local me = noter()
    actor.register("me", me)
    local context <close> = zmq.Context()
    local dealer = context:socket(zmq.DEALER)
    dealer:connect(listener.endpoint)
    for _, text in ipairs { "", "nonsense", ("\255"):rep(100) } do
      dealer:send(text)
    end
    support.eventually(function()
      return #errors == 3
    end)
    assert.matches("bad message: .*malformed", tostring(errors[1].err))
    assert.equal(2, actor.connect(listener.endpoint):actor("me"):call(1, 5))
    me:kill()
    assert.is_true(actor.shutdown(5))
  end)
end)
