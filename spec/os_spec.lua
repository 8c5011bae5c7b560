local moonlet = require "moonlet"
local os_ = require "moonlet.os"
local subprocess = require "moonlet.subprocess"
local support = require "support"

local ECHILD = 10

-- Whether a process is there, be it a zombie.
local function exists(pid)
  local file = io.open(("/proc/%d/stat"):format(pid))
  return file ~= nil and file:close()
end

-- A forked child that ends with that code, after some seconds.
local function child(code, seconds)
  local pid = assert(os_.fork())
  if pid == 0 then
    if seconds then
      moonlet.sleep(seconds)
    end
    os.exit(code)
  end
  return pid
end

describe("moonlet.os", function()
  describe("a pipe's descriptors", function()
    local r, w

    before_each(function()
      r, w = assert(os_.pipe())
    end)

    after_each(function()
      os_.close(r)
      os_.close(w)
    end)

    it("are read as far as there is something, and give an empty string at the end", function()
      assert.equal(5, os_.write(w, "hello"))
      assert.equal("hel", os_.read(r, 3))
      assert.equal("lo", os_.read(r, 100))
      assert.equal("", os_.read(r, 0))
      assert.is_true(os_.close(w))
      assert.equal("", os_.read(r, 100))
      assert.equal("", os_.read(r, 100))
    end)

    it("block only the greenlet that reads", function()
      local reader = moonlet.spawn(os_.read, r, 10)
      support.turns()
      assert.is_false(reader:ready())
      os_.write(w, "x")
      assert.equal("x", reader:get())
    end)

    it("take all that is written, blocking only the greenlet that writes", function()
      local text = ("w"):rep(1 << 19)
      local writer = moonlet.spawn(os_.write, w, text)
      support.turns()
      assert.is_false(writer:ready())
      local parts, size = {}, 0
      while size < #text do
        parts[#parts + 1] = os_.read(r, 100000)
        size = size + #parts[#parts]
      end
      assert.equal(text, table.concat(parts))
      assert.equal(#text, writer:get())
    end)

    it("take what goes at once with nb_write, which waits only when nothing does", function()
      local count = os_.nb_write(w, ("w"):rep(1 << 19))
      assert.is_true(count > 0 and count < 1 << 19)
      assert.same({ nil, "timeout", 0 }, { os_.nb_write(w, "more", 0) })
      local writer = moonlet.spawn(os_.nb_write, w, "more")
      support.turns()
      assert.is_false(writer:ready())
      os_.nb_read(r, 1 << 19)
      assert.equal(4, writer:get())
    end)

    it("time out: nil, timeout, and how much was written", function()
      assert.same({ nil, "timeout" }, { os_.read(r, 1, 0) })
      assert.same({ nil, "timeout" }, { os_.read(r, 1, -1) })
      assert.same({ nil, "timeout" }, { os_.read(r, 1, 0.001) })
      local _, why, count = os_.write(w, ("w"):rep(1 << 20), 0.001)
      assert.equal("timeout", why)
      assert.equal(count, #os_.read(r, 1 << 20))
      local limit <close> = moonlet.Timeout.start_new(0.001)
      assert.equal(limit, support.error_of(os_.read, r, 1, limit))
    end)

    it("wake who waits for them when they are closed", function()
      local writer = moonlet.spawn(os_.write, w, ("w"):rep(1 << 20))
      support.turns(1)
      os_.close(w)
      os_.close(r)
      assert.same({ nil, "closed" }, { writer:get() })
      local r2, w2 = os_.pipe()
      local other = moonlet.spawn(os_.read, r2, 1)
      support.turns(1)
      os_.close(r2)
      assert.same({ nil, "closed" }, { other:get() })
      os_.close(w2)
      r, w = os_.pipe()
    end)

    it("are not confused with those that get their numbers", function()
      local r2, w2
      local first = moonlet.spawn(function()
        os_.read(r, 1)
        os_.close(r)
        r2, w2 = os_.pipe()
      end)
      local late = moonlet.spawn(os_.read, r, 1)
      support.turns(1)
      os_.write(w, "x")
      first:join()
      assert.equal(r, r2)
      assert.same({ nil, "closed" }, { late:get() })
      os_.write(w2, "y")
      assert.equal("y", os_.read(r2, 1))
      os_.close(w2)
    end)

    it("may be read by several greenlets, first come, first served", function()
      local list = {}
      for i = 1, 3 do
        list[i] = moonlet.spawn(os_.read, r, 1)
      end
      support.turns(1)
      os_.write(w, "abc")
      assert.equal("a", list[1]:get())
      assert.equal("b", list[2]:get())
      assert.equal("c", list[3]:get())
    end)

    it("are left alone by a greenlet that is killed", function()
      local reader = moonlet.spawn(os_.read, r, 1)
      support.turns(1)
      reader:kill()
      os_.write(w, "x")
      assert.equal("x", os_.read(r, 1))
    end)

    it("say what goes wrong", function()
      os_.close(r)
      assert.same({ nil, "Broken pipe", 32 }, { os_.write(w, "x") })
      assert.same({ nil, "Bad file descriptor", 9 }, { os_.close(r) })
      assert.same({ nil, "Bad file descriptor", 9 }, { os_.read(w, 1) })
      r = os_.pipe()
    end)

    it("are non-blocking, and closed in programs that are run", function()
      local text = io.open("/proc/self/fdinfo/" .. r):read("a")
      local flags = tonumber(text:match("flags:%s*(%d+)"), 8)
      assert.equal(2048, flags & 2048)
      assert.equal(524288, flags & 524288)
    end)

    it("are refused where they are none, by name", function()
      for _, bad in ipairs { "x", {}, -1, 99999, 1.5 } do
        assert.matches("bad argument #1 to 'read'",
                       support.error_of(function() os_.read(bad, 1) end))
        assert.matches("bad argument #1 to 'write'",
                       support.error_of(function() os_.write(bad, "x") end))
      end
      assert.matches("bad argument #2 to 'read'",
                     support.error_of(function() os_.read(r, -1) end))
      assert.matches("bad argument #3 to 'read'",
                     support.error_of(function() os_.read(r, 1, "soon") end))
      assert.matches("bad argument #2 to 'write'", support.error_of(function() os_.write(w) end))
      assert.matches("bad argument #1 to 'close'", support.error_of(function() os_.close(-1) end))
    end)
  end)

  describe("execute", function()
    it("returns what Lua's does, and lets others run", function()
      assert.is_true(os_.execute())
      local seen = support.trace()
      local g = moonlet.spawn(seen, "other")
      assert.same({ true, "exit", 0 }, { os_.execute("sleep 0.05") })
      assert.equal("other", tostring(seen))
      g:join()
      assert.same({ nil, "exit", 3 }, { os_.execute("exit 3") })
      assert.same({ nil, "signal", 9 }, { os_.execute("kill -9 $$") })
      assert.same({ nil, "exit", 127 }, { os_.execute("nonexistent-program 2>/dev/null") })
      assert.matches("bad argument #1 to 'execute'",
                     support.error_of(function() os_.execute({}) end))
    end)
  end)

  describe("popen", function()
    it("reads what a command writes", function()
      local f = assert(os_.popen("echo one; echo two; exit 4"))
      assert.is_true(f:is(os_.File))
      assert.equal("one", f:read())
      assert.equal("two\n", f:read("a"))
      assert.same({ nil, "exit", 4 }, { f:close() })
      assert.is_true(f:close())
      local list = {}
      for line in os_.popen("printf 'a\\nb'"):lines() do
        list[#list + 1] = line
      end
      assert.same({ "a", "b" }, list)
    end)

    it("writes what a command reads, and waits for it when it is closed", function()
      local path = os.tmpname()
      local f = assert(os_.popen("sleep 0.05; cat >" .. path, "w"))
      assert.equal(f, f:write("given\n"))
      assert.same({ true, "exit", 0 }, { f:close() })
      assert.equal("given", io.open(path):read())
      os.remove(path)
      do
        local g <close> = assert(os_.popen("cat >/dev/null; kill -TERM $$", "w"))
        g:write("x")
      end
      local h = os_.popen("kill -TERM $$")
      assert.same({ nil, "signal", 15 }, { h:close() })
    end)

    it("lets others run, and a reader be killed", function()
      local f = assert(os_.popen("exec sleep 5"))
      local reader = moonlet.spawn(f.read, f)
      support.turns()
      reader:kill()
      local closer = moonlet.spawn(f.close, f)
      support.turns()
      closer:kill()
    end)

    it("refuses other modes", function()
      assert.matches("bad argument #2 to 'popen' %(invalid mode%)",
                     support.error_of(function() os_.popen("true", "rw") end))
      assert.matches("bad argument #1 to 'popen'", support.error_of(function() os_.popen() end))
    end)
  end)

  describe("fork", function()
    it("returns 0 in the child, where only the greenlet that forked goes on", function()
      local seen = support.trace()
      local other = moonlet.spawn(function()
        seen("other in " .. os_.getpid())
      end)
      local r, w = os_.pipe()
      local pid = assert(os_.fork())
      if pid == 0 then
        moonlet.sleep(0.01)
        os_.write(w, tostring(#seen))
        os.exit(0)
      end
      other:join()
      assert.equal("other in " .. os_.getpid(), tostring(seen))
      os_.close(w)
      assert.equal("0", os_.read(r, 10))
      os_.close(r)
      assert.same({ pid, "exited", 0 }, { os_.waitpid(pid) })
    end)

    it("writes buffered output once", function()
      local path = os.tmpname()
      local f <close> = assert(os_.open(path, "w"))
      f:write("once\n")
      local pid = child(0)
      os_.waitpid(pid)
      f:close()
      assert.equal("once\n", io.open(path):read("a"))
      os.remove(path)
    end)

    it("makes children that may use files, programs and threads", function()
      local f <close> = assert(os_.open("/proc/self/stat"))
      f:read()
      local pid = assert(os_.fork())
      if pid == 0 then
        local ok = pcall(function()
          local file <close> = assert(os_.open("/dev/null", "w"))
          assert(file:write("x"))
          assert(subprocess.check_output { args = { "echo", "hi" } } == "hi\n")
          local grandchild = child(5)
          assert(select(3, os_.waitpid(grandchild)) == 5)
        end)
        os.exit(ok and 0 or 1)
      end
      assert.same({ pid, "exited", 0 }, { os_.waitpid(pid) })
    end)
  end)

  describe("waitpid", function()
    it("blocks only its greenlet, and tells how the child ended", function()
      local seen = support.trace()
      local g = moonlet.spawn(seen, "other")
      local pid = child(7, 0.02)
      assert.same({ pid, "exited", 7 }, { os_.waitpid(pid) })
      assert.equal("other", tostring(seen))
      g:join()
      local killed = child(0, 60)
      assert.is_true(os_.kill(killed, "KILL"))
      assert.same({ killed, "killed", 9 }, { os_.waitpid(killed) })
      assert.is_false(exists(killed))
    end)

    it("reaps a child once, and says ECHILD afterwards and for processes not ours", function()
      local pid = child(0)
      os_.waitpid(pid)
      assert.same({ nil, "No child processes", ECHILD }, { os_.waitpid(pid) })
      assert.same({ nil, "No child processes", ECHILD }, { os_.waitpid(1) })
      assert.same({ nil, "No child processes", ECHILD }, { os_.waitpid() })
    end)

    it("waits for any forked child, in the order in which they end", function()
      local slow, quick = child(2, 0.1), child(1, 0.01)
      assert.same({ quick, "exited", 1 }, { os_.waitpid() })
      assert.same({ slow, "exited", 2 }, { os_.waitpid(-1) })
      assert.equal(ECHILD, select(3, os_.waitpid()))
    end)

    it("takes no status from a program of moonlet.subprocess", function()
      local p = subprocess.Popen { args = { "sleep", "0.02" } }
      assert.equal(ECHILD, select(3, os_.waitpid()))
      assert.same({ p.pid, "exited", 0 }, { os_.waitpid(p.pid) })
      assert.equal(0, p:wait())
    end)

    it("with WNOHANG does not wait", function()
      local pid = child(0, 60)
      assert.same({ 0, "running" }, { os_.waitpid(pid, os_.WNOHANG) })
      assert.same({ 0, "running" }, { os_.waitpid(nil, "WNOHANG") })
      os_.kill(pid, 9)
      support.eventually(function()
        return os_.waitpid(pid, "WNOHANG|WUNTRACED") == pid
      end)
    end)

    it("with WUNTRACED tells of a child that is stopped", function()
      local pid = child(3, 0.02)
      os_.kill(pid, "STOP")
      assert.same({ pid, "stopped", 19 }, { os_.waitpid(pid, os_.WUNTRACED) })
      assert.same({ nil, "timeout" }, { os_.waitpid(pid, os_.WUNTRACED, 0.01) })
      os_.kill(pid, "SIGCONT")
      assert.same({ pid, "exited", 3 }, { os_.waitpid(pid, "WUNTRACED") })
    end)

    it("times out, and may be killed; the child stays to be waited for", function()
      local pid = child(6, 0.05)
      assert.same({ nil, "timeout" }, { os_.waitpid(pid, nil, 0.001) })
      assert.same({ nil, "timeout" }, { os_.waitpid(nil, nil, 0) })
      local waiter = moonlet.spawn(os_.waitpid, pid)
      support.turns(1)
      waiter:kill()
      local limit <close> = moonlet.Timeout.start_new(0.001)
      assert.equal(limit, support.error_of(os_.waitpid, pid, nil, limit))
      assert.same({ pid, "exited", 6 }, { os_.waitpid(pid) })
    end)

    it("tells all greenlets that wait for one child", function()
      local pid = child(8, 0.01)
      local list = {}
      for i = 1, 3 do
        list[i] = moonlet.spawn(os_.waitpid, pid)
      end
      for i = 1, 3 do
        assert.same({ pid, "exited", 8 }, { list[i]:get() })
      end
    end)

    it("reaps children that were forked by other means", function()
      local code = [[
        local os_ = require "moonlet.os"
        local pid = tonumber(arg[1])
        print(select(2, os_.waitpid(pid)))
      ]]
      local path = os.tmpname()
      local file = io.open(path, "w")
      file:write(code)
      file:close()
      -- The shell forks a child and becomes the interpreter, which is its parent then.
      local command = ("sh -c '(sleep 0.02; exit 5) & exec %s %s $!'"):format(
        support.interpreter, path)
      local pipe = io.popen(command)
      assert.equal("exited\t5\n", pipe:read("a"))
      pipe:close()
      os.remove(path)
    end)

    it("checks its arguments", function()
      assert.matches("bad argument #2 to 'waitpid'",
                     support.error_of(function() os_.waitpid(1, "SOON") end))
      assert.matches("bad argument #2 to 'waitpid'",
                     support.error_of(function() os_.waitpid(1, {}) end))
      for _, pid in ipairs { 0, -5, 1.5, "x" } do
        assert.matches("os_spec%.lua:%d+: bad argument #1 to 'waitpid'",
                       support.error_of(function() os_.waitpid(pid) end))
      end
    end)
  end)

  describe("fork_and_watch", function()
    it("calls back in a greenlet when the child has ended", function()
      local seen = support.trace()
      local pid = os_.fork_and_watch(function(...)
        moonlet.sleep(0)
        seen(...)
      end)
      if pid == 0 then
        os.exit(4)
      end
      support.eventually(function() return #seen == 3 end)
      assert.equal(pid .. " exited 4", tostring(seen))
      assert.matches("bad argument #1 to 'fork_and_watch'",
                     support.error_of(function() os_.fork_and_watch("f") end))
    end)
  end)

  describe("kill", function()
    it("sends signals by number or name, and says why it cannot", function()
      local pid = child(0, 60)
      assert.is_true(os_.kill(pid, 0))
      assert.is_true(os_.kill(pid, "SIGTERM"))
      assert.same({ pid, "killed", 15 }, { os_.waitpid(pid) })
      assert.same({ nil, "No such process", 3 }, { os_.kill(pid, 0) })
      assert.matches("bad argument #2 to 'kill' %(not a signal: 'SIGNONE'%)",
                     support.error_of(function() os_.kill(pid, "SIGNONE") end))
      assert.matches("bad argument #2 to 'kill'",
                     support.error_of(function() os_.kill(pid, 999) end))
    end)
  end)
end)
