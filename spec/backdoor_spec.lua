local backdoor = require "moonlet.backdoor"
local moonlet = require "moonlet"
local socket = require "moonlet.socket"
local support = require "support"

local BackdoorServer = backdoor.BackdoorServer

describe("moonlet.backdoor", function()
  local function start(env, opts)
    local it = BackdoorServer({ "127.0.0.1", 0 }, env, opts)
    assert(it:start())
    return it
  end

  -- A client past the banner and the first prompt.
  local User = {}
  User.__index = User
  User.__close = function(self)
    self.socket:close()
  end

  -- What comes before the next prompt.
  function User:read(prompt)
    local text = ""
    while text:sub(-#prompt) ~= prompt do
      local piece, message = self.socket:recv()
      if not piece then
        return text, message
      end
      text = text .. piece
    end
    return (text:sub(1, -#prompt - 1))
  end

  function User:send(line)
    assert(self.socket:send(line .. "\n"))
  end

  -- The answer to a line.
  function User:enter(line, prompt)
    self:send(line)
    return self:read(prompt or "> ")
  end

  local function connect(it)
    local self = setmetatable({ socket = assert(socket.create_connection(it.address, 10)) }, User)
    self.banner = self:read("> ")
    return self
  end

  it("greets with a banner, then prompts", function()
    local it <close> = start()
    local user <close> = connect(it)
    assert.equal(("%s, %s\n"):format(moonlet._VERSION, _VERSION), user.banner)
    local other <close> = start(nil, { banner = "Welcome!" })
    local guest <close> = connect(other)
    assert.equal("Welcome!\n", guest.banner)
  end)

  it("shows the values of expressions, and runs statements", function()
    local it <close> = start()
    local user <close> = connect(it)
    assert.equal("2\n", user:enter("1 + 1"))
    assert.equal("1\tnil\tx\n", user:enter("1, nil, 'x'"))
    assert.equal("nil\n", user:enter("nil"))
    assert.equal("", user:enter("x = 5"))
    assert.equal("5\n", user:enter("=x"))
    assert.equal("", user:enter("local y = 1"))
    assert.equal("", user:enter(""))
    assert.equal("", user:enter("-- a comment"))
    assert.equal("3\n", user:enter("return 3"))
  end)

  it("takes lines that end as telnet ends them", function()
    local it <close> = start()
    local user <close> = connect(it)
    assert.equal("'a'\n", user:enter("\"'a'\"\r"))
  end)

  it("asks for more while a statement is not complete", function()
    local it <close> = start()
    local user <close> = connect(it)
    assert.equal("", user:enter("for i = 1, 2 do", ">> "))
    assert.equal("", user:enter("print(i)", ">> "))
    assert.equal("1\n2\n", user:enter("end"))
    assert.equal("", user:enter("text = [[a", ">> "))
    assert.equal("", user:enter("b]]"))
    assert.equal("a\nb\n", user:enter("text"))
  end)

  it("shows errors with a traceback of the session's code, and goes on", function()
    local it <close> = start()
    local user <close> = connect(it)
    assert.matches("^backdoor:1: unexpected symbol near '%)'\n$", user:enter(")"))
    local report = user:enter("local function f() error('deep') end f()")
    assert.matches("^backdoor:1: deep\nstack traceback:\n", report)
    assert.matches("in local 'f'", report)
    assert.is_nil(report:find("xpcall", 1, true))
    assert.matches("^%(error object is a table value%)\n", user:enter("error {}"))
    assert.matches("^own text\n", user:enter(
      "error(setmetatable({}, { __tostring = function() return 'own text' end }))"))
    assert.matches("^%(error object is a nil value%)\n", user:enter("error()"))
    assert.equal("1\n", user:enter("1"))
  end)

  it("has variables for each connection, before those of env and globals", function()
    local env = { jobs = 42 }
    local it <close> = start(env)
    local a <close> = connect(it)
    local b <close> = connect(it)
    assert.equal("42\n", a:enter("jobs"))
    a:enter("jobs = 1; mine = 2; string = 3")
    assert.equal("1\t2\t3\n", a:enter("jobs, mine, string"))
    assert.equal("42\tnil\n", b:enter("jobs, mine"))
    assert.equal("table\n", b:enter("type(string)"))
    assert.equal(42, env.jobs)
    env.jobs = false
    assert.equal("false\n", b:enter("jobs"))
    assert.is_nil(rawget(_G, "mine"))
  end)

  it("has print write to the connection, from other greenlets too", function()
    local it <close> = start()
    local user <close> = connect(it)
    assert.equal("a\t1\tnil\n", user:enter("print('a', 1, nil)"))
    assert.equal("\n", user:enter("print()"))
    assert.equal("other\n", user:enter("require('moonlet').spawn(print, 'other'):join() return"))
  end)

  it("takes prompts from _PROMPT and _PROMPT2", function()
    local it <close> = start({ _PROMPT2 = "more: " })
    local user <close> = connect(it)
    assert.equal("", user:enter("_PROMPT = 'lua: '", "lua: "))
    assert.equal("1\n", user:enter("1", "lua: "))
    assert.equal("", user:enter("do", "more: "))
    assert.equal("", user:enter("end", "lua: "))
  end)

  for _, line in ipairs { "quit", "exit", "quit()", "exit()", "pcall(print) quit()" } do
    it(("ends a session at %q, and only that one"):format(line), function()
      local it <close> = start()
      local a <close> = connect(it)
      local b <close> = connect(it)
      a:send(line)
      assert.equal("closed", select(2, a:read("never")))
      assert.equal("1\n", b:enter("1"))
      assert.is_true(it.started)
    end)
  end

  it("tells what quit is for", function()
    local it <close> = start()
    local user <close> = connect(it)
    assert.equal("quit() or exit() ends this session\n", user:enter("(quit)"))
  end)

  it("has only the session wait whose line blocks", function()
    local it <close> = start({ moonlet = moonlet })
    local a <close> = connect(it)
    local b <close> = connect(it)
    b:enter("event = require('moonlet.event').Event()")
    a:send("moonlet.sleep(0.05)")
    assert.equal("1\n", b:enter("1"))
    assert.equal("", a:read("> "))
    assert.equal("nil\ttimeout\n", a:enter("moonlet.with_timeout(0, moonlet.sleep, 10)"))
  end)

  it("survives a client that leaves, in the middle of a statement or of a call", function()
    local it <close> = start({ moonlet = moonlet })
    for _, line in ipairs { "", "do", "moonlet.sleep(0.01) print(1)" } do
      local user = connect(it)
      user:send(line)
      user.socket:close()
    end
    local user <close> = connect(it)
    assert.equal("1\n", user:enter("1"))
  end)

  it("ends its sessions when it is stopped", function()
    local it = start({ moonlet = moonlet })
    local idle <close> = connect(it)
    local busy <close> = connect(it)
    busy:send("pcall(moonlet.sleep, 1000) moonlet.sleep(1000)")
    support.turns(10)
    it:stop(0)
    assert.equal("closed", select(2, idle:read("never")))
    assert.is_false(it.started)
    support.eventually(function() return tostring(it):find("stop", 1, true) end)
    it:stop(0)
    assert.equal("closed", select(2, busy:read("never")))
  end)

  it("runs no precompiled code", function()
    local it <close> = start()
    local user <close> = connect(it)
    assert.matches("attempt to load", user:enter("load(string.dump(load 'x = 1'), 'x', 't')"))
    assert.matches("attempt to load", user:enter("\27Lua"))
  end)

  describe("listens", function()
    local function refuses(where, ...)
      local args = table.pack(...)
      assert.error_matches(function()
        BackdoorServer(where, table.unpack(args, 1, args.n))
      end, "bad argument #1 to 'BackdoorServer' %(.* can be reached by others")
    end

    it("on the loopback interface if it is given a port alone", function()
      local it = BackdoorServer(0)
      assert(it:start())
      assert.equal("127.0.0.1", it.address[1])
      local user <close> = connect(it)
      assert.equal("1\n", user:enter("1"))
      user:send("quit")
      it:stop()
    end)

    it("on no address that others can reach, unless told", function()
      refuses({ "0.0.0.0", 0 })
      refuses("192.0.2.1:80", {})
      refuses("[::]:80", nil, {})
      refuses("host.example:80")
      assert.same({ "192.0.2.1", 80 }, BackdoorServer("192.0.2.1:80", nil,
                                                      { anywhere = true }).address)
      assert.same({ "", 80 }, BackdoorServer(80, nil, { anywhere = true }).address)
      for _, where in ipairs { "localhost:80", "[::1]:80", "127.0.0.2:80", "unix:/tmp/x" } do
        assert.truthy(BackdoorServer(where))
      end
      local listener <close> = assert(socket.bind("0.0.0.0", 0))
      refuses(listener)
    end)

    it("on a unix socket", function()
      local path = os.tmpname()
      os.remove(path)
      local it = BackdoorServer({ path = path })
      assert(it:start())
      local user <close> = connect(it)
      assert.equal("1\n", user:enter("1"))
      user:send("quit")
      it:stop()
    end)
  end)

  it("refuses an env that is no table", function()
    assert.error_matches(function() BackdoorServer(0, 5) end,
                         "bad argument #2 to 'BackdoorServer' %(table expected, got number%)")
  end)
end)
