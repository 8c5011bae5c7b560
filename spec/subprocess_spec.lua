local moonlet = require "moonlet"
local os_ = require "moonlet.os"
local subprocess = require "moonlet.subprocess"
local support = require "support"

local Popen, PIPE, DEVNULL, STDOUT = subprocess.Popen, subprocess.PIPE, subprocess.DEVNULL,
                                     subprocess.STDOUT

local function shell(command, options)
  options = options or {}
  options.args, options.shell = command, true
  return assert(Popen(options))
end

-- The state of a process as the kernel names it: "Z" a zombie, nil: there is none.
local function state_of(pid)
  local file <close> = io.open(("/proc/%d/stat"):format(pid))
  return file and file:read("a"):match("%) (%u)") or nil
end

local function bad_field(field, options)
  local message = support.error_of(function() Popen(options) end)
  assert.matches("subprocess_spec.lua:%d+: bad argument #1 to 'Popen' %(field '" .. field .. "'",
                 message)
end

describe("Popen", function()
  describe("wait", function()
    it("blocks only its greenlet and returns the exit code, or minus the signal", function()
      local seen = support.trace()
      local g = moonlet.spawn(seen, "other")
      local p = shell("sleep 0.02; exit 3")
      assert.is_nil(p.returncode)
      assert.is_nil(p:poll())
      assert.equal(3, p:wait())
      assert.equal("other", tostring(seen))
      assert.equal(3, p.returncode)
      assert.equal(3, p:wait(0))
      assert.equal(3, p:poll())
      assert.equal(-9, shell("kill -9 $$"):wait())
      assert.equal(0, Popen { args = { "true" } }:wait())
      g:join()
    end)

    it("returns nil, timeout; the program lives", function()
      local p = Popen { args = { "sleep", "60" } }
      assert.same({ nil, "timeout" }, { p:wait(0) })
      assert.same({ nil, "timeout" }, { p:wait(0.001) })
      local limit <close> = moonlet.Timeout.start_new(0.001)
      assert.equal(limit, support.error_of(p.wait, p, limit))
      assert.is_nil(p:poll())
      p:kill()
      assert.equal(-9, p:wait())
    end)

    it("may be killed, and waited for by several", function()
      local p = shell("sleep 0.05; exit 2")
      local victim = moonlet.spawn(p.wait, p)
      local list = { moonlet.spawn(p.wait, p), moonlet.spawn(p.wait, p) }
      support.turns(1)
      victim:kill()
      assert.equal(2, list[1]:get())
      assert.equal(2, list[2]:get())
    end)

    it("gives each of ten children that end at once its own status", function()
      local r, w = os_.pipe()
      local list, waiters = {}, {}
      for i = 1, 10 do
        list[i] = shell("read _; exit " .. i, { stdin = r })
        waiters[i] = moonlet.spawn(list[i].wait, list[i])
      end
      support.turns(1)
      os_.close(w)
      os_.close(r)
      for i = 1, 10 do
        assert.equal(i, waiters[i]:get())
      end
    end)

    it("works in every place where Lua code can run", function()
      for _, place in ipairs(require "support.places") do
        local p = Popen { args = { "true" } }
        place.run(function() assert(p:wait() == 0, place.name) end)
      end
    end)
  end)

  it("leaves no zombies, whether somebody waits or not", function()
    local p = Popen { args = { "true" } }
    local pid = p.pid
    support.eventually(function() return state_of(pid) == nil end)
    assert.equal(0, p.returncode)
    local waiting = shell("sleep 0.02")
    pid, waiting = waiting.pid, nil
    collectgarbage()
    collectgarbage()
    assert.is_nil(waiting)
    support.eventually(function() return state_of(pid) == nil end)
    local fleeting = shell("sleep 0.02"):terminate() and shell("exit 1").pid
    support.eventually(function() return state_of(fleeting) == nil end)
  end)

  it("says why a program cannot be started", function()
    if support.valgrind then
      return
    end
    assert.same({ nil, "nonexistent-program: No such file or directory", 2 },
                { Popen { args = { "nonexistent-program" } } })
    assert.same({ nil, "/etc/passwd: Permission denied", 13 }, { Popen { args = "/etc/passwd" } })
    assert.same({ nil, "/nonexistent: No such file or directory", 2 },
                { Popen { args = { "true" }, cwd = "/nonexistent" } })
    local Sub = Popen:extend("Sub")
    assert.is_nil(Sub { args = { "nonexistent-program" }, stdin = PIPE, stdout = PIPE })
    assert.is_true(Sub { args = { "true" } }:is(Popen))
  end)

  it("closes pipes when the program cannot be started", function()
    local function count()
      local n = 0
      for _ in io.popen("ls /proc/" .. os_.getpid() .. "/fd"):lines() do
        n = n + 1
      end
      return n
    end
    collectgarbage()
    local before = count()
    for _ = 1, 20 do
      Popen { args = { "nonexistent-program" }, stdin = PIPE, stdout = PIPE, stderr = PIPE }
    end
    assert.is_true(count() <= before + 2 or support.valgrind)
  end)

  describe("options", function()
    local function output(options)
      options.stdout = PIPE
      local out = assert(Popen(options)):communicate()
      return out
    end

    it("args is a list, or a program's name; with shell a command and its arguments", function()
      assert.equal("a b\n", output { args = { "echo", "a b" } })
      assert.equal("1 2.5\n", output { args = { "echo", 1, 2.5 } })
      assert.matches("Linux", output { args = "uname" })
      assert.equal("x y\n", output { args = { "echo $0 $1", "x", "y" }, shell = true })
    end)

    it("args may be the options' own elements", function()
      assert.equal("a b\n", output { "echo", "a b" })
      assert.equal("x\n", output { "echo $0", "x", shell = true })
      assert.same({ "true" }, Popen { "true" }.args)
      bad_field("args", { "echo", {} })
      bad_field("args", { "echo", nil, "b" })
      bad_field("1", { "echo", args = { "true" } })
    end)

    it("executable is run in place of the first of args", function()
      assert.equal("zero\n", output { args = { "zero", "-c", "echo $0" }, executable = "/bin/sh" })
    end)

    it("cwd is the folder it runs in, and where a relative program is sought", function()
      assert.equal("/usr\n", output { args = { "pwd" }, cwd = "/usr" })
      assert.equal("hi\n", output { args = { "./sh", "-c", "echo hi" }, cwd = "/bin" })
    end)

    it("env replaces the environment, and its PATH is used", function()
      assert.equal("A=1\nB=two words\n", output { args = { "/usr/bin/env" },
                                                  env = { A = 1, B = "two words" } })
      assert.matches("^PATH=/usr/bin\n",
                     output { args = { "env" }, env = { PATH = "/usr/bin" } })
      if support.valgrind then
        return
      end
      assert.matches("^PATH=", output { args = { "env" }, env = { PATH = "/nowhere:/usr/bin" } })
      assert.is_nil(Popen { args = { "env" }, env = { PATH = "/nowhere" } })
    end)

    it("streams are ours, pipes, /dev/null, descriptors, files, or objects with getfd", function()
      local r, w = os_.pipe()
      assert.equal(0, Popen { args = { "echo", "1" }, stdout = w }:wait())
      assert.equal(0, Popen { args = { "echo", "2" },
                              stdout = { getfd = function() return w end } }:wait())
      local file = os_.File(w, false)
      assert.equal(0, Popen { args = { "echo", "3" }, stdout = file }:wait())
      assert.equal("1\n2\n3\n", os_.read(r, 100))
      local temporary <close> = io.tmpfile()
      assert.equal(0, Popen { args = { "echo", "4" }, stdout = temporary }:wait())
      temporary:seek("set")
      assert.equal("4", temporary:read())
      assert.equal("", output { args = { "cat" }, stdin = DEVNULL })
      assert.equal(0, Popen { args = { "echo", "nothing" }, stdout = DEVNULL,
                              stderr = DEVNULL }:wait())
      assert.equal("out\nerr\n", output { args = "echo out; echo err >&2", shell = true,
                                          stderr = STDOUT })
      file:close()
      os_.close(r)
    end)

    it("streams may be exchanged, and stand in each other's place", function()
      local r, w = os_.pipe()
      local code = [[
        local subprocess = require "moonlet.subprocess"
        subprocess.call { args = "echo out; echo err >&2", shell = true, stdout = 2, stderr = 1 }
      ]]
      local result = support.run_script(code)
      assert.equal("err\n", result.stdout)
      assert.equal("out\n", result.stderr)
      os_.close(r)
      os_.close(w)
    end)

    it("a child gets blocking descriptors, and no others than three", function()
      local r, w = os_.pipe()
      local flags = output { args = { "grep", "flags", "/proc/self/fdinfo/0" }, stdin = r }
      assert.equal(0, tonumber(flags:match("%d+"), 8) & 2048)
      local leak <close> = assert(io.open("/dev/null"))
      assert.equal("0\n1\n2\n3\n", output { args = { "ls", "/proc/self/fd" } }) -- 3: the folder
      os_.close(r)
      os_.close(w)
      assert.truthy(leak)
    end)

    it("a child has default signals, none blocked", function()
      local status = output { args = { "cat", "/proc/self/status" } }
      assert.equal(0, tonumber(status:match("SigBlk:%s*(%x+)"), 16))
      assert.equal(0, tonumber(status:match("SigIgn:%s*(%x+)"), 16) & 1 << 12) -- SIGPIPE
      assert.equal("y\n", output { args = "yes | head -n 1", shell = true })
    end)

    it("start_new_session and process_group set it apart", function()
      local stat = output { args = { "cat", "/proc/self/stat" }, start_new_session = true }
      local pid, group, session = stat:match("^(%d+) %b() %u %d+ (%d+) (%d+)")
      assert.equal(pid, group)
      assert.equal(pid, session)
      stat = output { args = { "cat", "/proc/self/stat" }, process_group = 0 }
      pid, group, session = stat:match("^(%d+) %b() %u %d+ (%d+) (%d+)")
      assert.equal(pid, group)
      assert.are_not.equal(pid, session)
    end)

    it("are checked by name", function()
      bad_field("args", {})
      bad_field("args", { args = {} })
      bad_field("args", { args = { "echo", {} } })
      bad_field("args", { args = { "echo", "a\0b" } })
      bad_field("args", { args = { "echo", nil, "b" } })
      bad_field("stdin", { args = "true", stdin = "pipe" })
      bad_field("stdin", { args = "true", stdin = STDOUT })
      bad_field("stdout", { args = "true", stdout = 99999 })
      bad_field("stderr", { args = "true", stderr = {} })
      bad_field("cwd", { args = "true", cwd = true })
      bad_field("env", { args = "true", env = "A=1" })
      bad_field("env", { args = "true", env = { ["A=B"] = "1" } })
      bad_field("env", { args = "true", env = { A = true } })
      bad_field("shell", { args = "true", shell = 1 })
      bad_field("process_group", { args = "true", process_group = -1 })
      bad_field("executable", { args = "true", executable = {} })
      bad_field("timeout", { args = "true", timeout = 1 })
      assert.matches("bad argument #1 to 'Popen' %(table expected, got string%)",
                     support.error_of(function() Popen("true") end))
    end)
  end)

  describe("communicate", function()
    it("passes 1 MB through cat, both ways at once", function()
      local p = assert(Popen { args = { "cat" }, stdin = PIPE, stdout = PIPE })
      local text = ("0123456789abcdef"):rep(1 << 16)
      local out, err = p:communicate(text)
      assert.is_true(out == text)
      assert.is_nil(err)
      assert.equal(0, p.returncode)
      assert.equal("file (closed)", tostring(p.stdin))
    end)

    it("returns what pipes were asked for", function()
      local p = shell("echo out; echo err >&2", { stdout = PIPE, stderr = PIPE })
      assert.same({ "out\n", "err\n" }, { p:communicate() })
      p = shell("echo out; echo err >&2", { stdout = DEVNULL, stderr = PIPE })
      local out, err = p:communicate()
      assert.is_nil(out)
      assert.equal("err\n", err)
      assert.same({ n = 2 }, table.pack(Popen { args = { "true" } }:communicate()))
    end)

    it("keeps all it has captured over a timeout, a kill, and to the end", function()
      local r, w = os_.pipe()
      local q = assert(Popen { args = { "sh", "-c", "echo early; cat; cat <&2; echo late" },
                               stdin = PIPE, stdout = PIPE, stderr = r })
      assert.same({ nil, "timeout" }, { q:communicate("input ", 0.05) })
      assert.same({ nil, "timeout" }, { q:communicate(nil, 0) })
      local g = moonlet.spawn(q.communicate, q)
      support.turns()
      g:kill()
      assert.matches("input is for the first call",
                     support.error_of(function() q:communicate("x") end))
      os_.write(w, "through ")
      os_.close(w)
      assert.equal("early\ninput through late\n", (q:communicate()))
      assert.equal("early\ninput through late\n", (q:communicate()))
      os_.close(r)
    end)

    it("returns the output so far after a timeout and a kill of the program", function()
      local p = shell("echo captured; exec sleep 60", { stdout = PIPE })
      support.eventually(function()
        return select(2, p:communicate(nil, 0.01)) == "timeout" and
               #p._conversation.stdout > 0
      end)
      p:kill()
      assert.equal("captured\n", (p:communicate()))
      assert.equal(-9, p.returncode)
    end)

    it("hides that the program did not read its input", function()
      local p = assert(Popen { args = { "true" }, stdin = PIPE, stdout = PIPE })
      assert.equal("", (p:communicate(("x"):rep(1 << 20))))
      assert.equal(0, p.returncode)
      p = assert(Popen { args = { "head", "-c", "3" }, stdin = PIPE, stdout = PIPE })
      assert.equal("abc", (p:communicate("abc" .. ("x"):rep(1 << 20))))
    end)

    it("begins with what is in the files' buffers", function()
      local p = shell("echo one; echo two", { stdout = PIPE })
      assert.equal("one", p.stdout:read())
      assert.equal("two\n", (p:communicate()))
    end)

    it("checks its arguments", function()
      local p = assert(Popen { args = { "true" } })
      assert.matches("bad argument #1 to 'communicate'",
                     support.error_of(function() p:communicate({}) end))
      assert.matches("bad argument #2 to 'communicate'",
                     support.error_of(function() p:communicate(nil, "soon") end))
      assert.matches("stdin is not PIPE", support.error_of(function() p:communicate("x") end))
      p:wait()
    end)
  end)

  it("talks through its files", function()
    local p = assert(Popen { args = { "cat" }, stdin = PIPE, stdout = PIPE })
    for i = 1, 3 do
      p.stdin:write("line ", i, "\n")
      assert.equal("line " .. i, p.stdout:read())
    end
    p.stdin:close()
    assert.is_nil(p.stdout:read())
    assert.equal(0, p:wait())
  end)

  describe("signals", function()
    it("are sent by name or number, and to what has ended not at all", function()
      local p = Popen { args = { "sleep", "60" } }
      assert.is_true(p:send_signal("SIGTERM"))
      assert.equal(-15, p:wait())
      assert.is_true(p:terminate())
      assert.is_true(p:kill())
      assert.is_true(p:send_signal(9))
      assert.equal(-15, p.returncode)
      local q = Popen { args = { "sleep", "60" } }
      q:send_signal(1)
      assert.equal(-1, q:wait())
      assert.matches("not a signal: 'SIGNO'",
                     support.error_of(function() q:send_signal("SIGNO") end))
    end)

    it("SIGTERM may be ignored, SIGKILL not", function()
      local p = shell("trap '' TERM; echo ready; while :; do sleep 0.01; done", { stdout = PIPE })
      assert.equal("ready", p.stdout:read())
      p:terminate()
      assert.same({ nil, "timeout" }, { p:wait(0.05) })
      p:kill()
      assert.equal(-9, p:wait())
      p.stdout:close()
    end)
  end)

  it("is ready in wait and iwait once the program has ended", function()
    local slow, quick = shell("sleep 0.1; exit 1"), shell("sleep 0.01; exit 2")
    assert.same({ quick, slow }, moonlet.wait { slow, quick })
    assert.same({ slow }, moonlet.wait { slow })
    local third = shell("sleep 60")
    assert.same({}, moonlet.wait({ third }, 0.001))
    third:kill()
    for p in moonlet.iwait { third, slow } do
      assert.is_true(p == third or p == slow)
    end
    assert.equal(-9, third.returncode)
  end)

  it("keeps the program waiting only for what somebody waits for", function()
    local result = support.run_script([[
      local moonlet = require "moonlet"
      local subprocess = require "moonlet.subprocess"
      local p = subprocess.Popen { args = { "sleep", "60" } }
      print(pcall(function() require("moonlet.event").Event():wait() end))
      p:kill()
      moonlet.wait { p }
      print(p.returncode)
    ]])
    assert.matches("^false", result.stdout)
    assert.matches("\n%-9\n$", result.stdout)
  end)

  it("calls back when the program has ended", function()
    local seen = support.trace()
    local p = Popen { args = { "true" } }
    p:link(function(popen)
      moonlet.sleep(0)
      seen(popen.returncode)
    end)
    support.eventually(function() return #seen == 1 end)
    assert.equal("0", tostring(seen))
    assert.matches("bad argument #1 to 'link'", support.error_of(function() p:link(5) end))
  end)

  it("as a scope closes its pipes and waits", function()
    local code
    do
      local p <close> = shell("cat >/dev/null; sleep 0.02; exit 4", { stdin = PIPE })
      p.stdin:write("x")
      code = p
    end
    assert.equal(4, code.returncode)
    assert.equal(4, code:close())
  end)

  it("says what it is and in which state", function()
    local p = shell("exit 3")
    assert.matches("^<Popen: pid %d+, running>$", tostring(p))
    p:wait()
    assert.equal(("<Popen: pid %d, exit code 3>"):format(p.pid), tostring(p))
    local q = Popen { args = { "sleep", "60" } }
    q:kill()
    q:wait()
    assert.equal(("<Popen: pid %d, ended by signal 9>"):format(q.pid), tostring(q))
  end)

  it("is reaped after os.exit and lua_close without an error", function()
    for _, last in ipairs { "", "os.exit(0)", "os.exit(0, true)" } do
      local result = support.run_script([[
        local subprocess = require "moonlet.subprocess"
        local p = subprocess.Popen { args = { "sleep", "0.05" } }
        local q = subprocess.Popen { args = { "true" } }
        q:wait()
      ]] .. last)
      assert.equal(0, result.status)
      assert.equal("", result.stderr)
    end
  end)
end)
