-- Each blocking function of the C library, called by a module that knows nothing of greenlets.

local callouts = require "support.callouts"

-- The same for each way to link the module, loaded before and after patch_c.
local function everywhere(name, code)
  for _, linked in ipairs(callouts.linked) do
    it(("%s (%s)"):format(name, linked), function()
      callouts.run(code, { linked = linked, late = linked == "now" })
    end)
  end
end

describe("patch_c makes cooperative:", function()
  everywhere("input from sockets", [[
    for _, name in ipairs { "read", "readv", "recv", "recvfrom", "recvmsg", "recvmmsg" } do
      local mine, other = blocking.socketpair()
      equal("input", fed(function() blocking.write(other, "input") end, blocking[name], mine))
      equal("", fed(function() blocking.close(other) end, blocking[name], mine))
      blocking.close(mine)
    end
    local MSG_PEEK, MSG_WAITALL, MSG_DONTWAIT = 2, 0x100, 0x40
    local mine, other = blocking.socketpair()
    local _, message = blocking.recv(mine, 5, MSG_DONTWAIT)
    equal("Resource temporarily unavailable", message)
    moonlet.spawn(function()
      for i = 1, 5 do
        moonlet.sleep(0.005)
        blocking.write(other, tostring(i))
      end
    end)
    equal("1", blocking.recv(mine, 5, MSG_PEEK))
    equal("12345", blocking.recv(mine, 5, MSG_WAITALL))
  ]])

  everywhere("input from terminals, timers and the like", [[
    local mine, other = blocking.terminal()
    equal("a line\n", fed(function() blocking.write(mine, "a line\n") end, blocking.read, other))
    assert(blocking.read(mine):find("a line", 1, true))
    equal("more\n", fed(function() blocking.write(mine, "more\n") end, blocking.fgets, other))
    local one = ("j"):pack(1)
    equal(one, select(2, timed(blocking.read, blocking.timerfd(100))))
    local event = blocking.eventfd()
    equal(one, fed(function() blocking.write(event, one) end, blocking.read, event))
  ]])

  everywhere("input from pipes", [[
    for _, name in ipairs { "read", "readv", "read_by_pointer" } do
      local mine, other = blocking.pipe()
      equal("input", fed(function() blocking.write(other, "input") end, blocking[name], mine))
      equal("", fed(function() blocking.close(other) end, blocking[name], mine))
      blocking.close(mine)
    end
    local mine, other = blocking.pipe()
    blocking.write(other, "ready")
    equal("ready", blocking.read(mine))
    equal("", blocking.read(mine, 0))
  ]])

  everywhere("output to sockets: all of it is sent", [[
    local text = ("x"):rep(1000000)
    for _, name in ipairs { "write", "writev", "send", "sendto", "sendmsg", "sendmmsg" } do
      local mine, other = blocking.socketpair()
      local got = 0
      local reader = moonlet.spawn(function()
        repeat
          local piece = blocking.read(other)
          got = got + #piece
        until piece == ""
      end)
      equal(#text, cooperative(blocking[name], mine, text))
      blocking.close(mine)
      reader:join()
      equal(#text, got)
      blocking.close(other)
      mine, other = blocking.socketpair()
      blocking.close(other)
      local _, message = blocking[name](mine, text)
      equal("Broken pipe", message)
      blocking.close(mine)
    end
  ]])

  everywhere("a file that is sent", [[
    local path = os.tmpname()
    local file <close> = io.open(path, "w")
    file:write(("x"):rep(1000000)):flush()
    local mine, other = blocking.socketpair()
    local got = 0
    local reader = moonlet.spawn(function()
      repeat
        local piece = blocking.read(other)
        got = got + #piece
      until piece == ""
    end)
    equal(1000000, cooperative(blocking.sendfile, mine, path))
    assert(not blocking.is_nonblocking(mine))
    blocking.close(mine)
    reader:join()
    equal(1000000, got)
    os.remove(path)
  ]])

  everywhere("output to pipes: all of it is written", [[
    local text = ("x"):rep(300000)
    for _, name in ipairs { "write", "writev" } do
      local other, mine = blocking.pipe()
      local got = 0
      local reader = moonlet.spawn(function()
        repeat
          local piece = blocking.read(other)
          got = got + #piece
        until piece == ""
      end)
      equal(#text, cooperative(blocking[name], mine, text))
      blocking.close(mine)
      reader:join()
      equal(#text, got)
      blocking.close(other)
    end
    local path = os.tmpname()
    local file = blocking.open(path)
    equal(#text, blocking.write(file, text))
    equal(5, blocking.writev(file, "after"))
    equal(text .. "after", io.open(path):read("a"))
    os.remove(path)
  ]])

  everywhere("connections", [[
    local server, port = blocking.listen()
    local client
    for _, name in ipairs { "accept", "accept4" } do
      local accepted = fed(function() client = blocking.connect(port) end, blocking[name], server)
      blocking.write(client, "hello")
      equal("hello", blocking.read(accepted))
      assert(not blocking.is_nonblocking(client))
    end
    blocking.close(server)
    local _, message = blocking.connect(port)
    equal("Connection refused", message)
    local path = os.tmpname()
    os.remove(path)
    server = blocking.listen_unix(path)
    blocking.connect_unix(path)
    local second = fed(function() blocking.accept(server) end, blocking.connect_unix, path)
    assert(second)
    os.remove(path)
  ]])

  everywhere("waiting for several descriptors", [[
    local IN, OUT, PRI, HUP = 1, 4, 2, 16
    for _, name in ipairs { "poll", "ppoll", "select", "pselect", "epoll_wait", "epoll_pwait" } do
      for _, masked in ipairs { false, true } do
        local wait = blocking[name]
        local mine, other = blocking.socketpair()
        equal(0, (wait(mine, IN, 0, masked)))
        local time, found = timed(wait, mine, IN, 30, masked)
        equal(0, found)
        assert(time >= 0.03 and time < 5, time)
        equal(1, (fed(function() blocking.write(other, "!") end, wait, mine, IN, 9000, masked)))
        equal(1, (wait(mine, IN, 9000, masked)))
        assert(wait(mine, OUT, 9000, masked) >= 1)
        blocking.close(mine)
        blocking.close(other)
      end
    end
    local mine, other = blocking.socketpair()
    equal(HUP, fed(function() blocking.close(other) end, blocking.poll, mine, 0, 9000))
    mine, other = blocking.socketpair()
    equal(0, (select(2, timed(blocking.poll, mine, PRI, 30))))
    equal(0, (select(2, timed(blocking.poll, -1, IN, 30))))
    local found, left, which = fed(function() blocking.write(other, "!") end, blocking.select, mine,
                                   IN + PRI, 9000)
    equal(1, found)
    equal(IN, which)
    assert(left > 0 and left < 9000, left)
    equal(0, (blocking.select(mine, PRI, 10)))
    local NVAL = 32
    equal(NVAL, fed(function() blocking.close(mine) end, blocking.poll, mine, PRI, -1))
  ]])

  everywhere("sleeping", [[
    for _, name in ipairs { "usleep", "nanosleep", "clock_nanosleep", "sleep_until",
                            "sleep_stubbornly" } do
      local time = timed(blocking[name], 30)
      assert(time >= 0.03 and time < 5, time)
    end
    local time = timed(blocking.sleep, 1000)
    assert(time >= 1 and time < 9, time)
    cooperative(blocking.usleep, 0)
  ]])

  everywhere("looking names up", [[
    equal("127.0.0.1", blocking.getaddrinfo("127.0.0.1"))
    -- The answer may be there before anybody else has had a turn.
    local function look_up(name, ...)
      local waited, answer = false
      local watcher = moonlet.spawn(function() waited = true end)
      for _ = 1, 1000 do
        answer = blocking[name](...)
        if waited then
          return answer
        end
      end
      watcher:kill()
      error(name .. " does not let others run")
    end
    equal("127.0.0.1", look_up("getaddrinfo", "localhost"))
    local nothing, message = blocking.getaddrinfo("nobody.invalid")
    equal(nil, nothing)
    assert(message)
    equal("127.0.0.1", look_up("gethostbyname", "localhost"))
    assert(look_up("getnameinfo", 80))
    assert(look_up("gethostbyaddr"))
  ]])

  everywhere("waiting for children", [[
    for _, name in ipairs { "wait", "waitpid", "wait3", "wait4", "waitid" } do
      local pid = blocking.spawn("sleep 0.1; exit 3")
      local time, found, code = timed(blocking[name], pid)
      equal(pid, found)
      equal(3, code)
      assert(time < 5, time)
    end
    local _, message = blocking.waitpid(1)
    equal("No child processes", message)
    local time, _, code = timed(blocking.system, "sleep 0.1; exit 4")
    equal(4, code)
    _, _, code = blocking.system("kill -9 $$")
    equal(nil, code)
    _, code = blocking.system("kill -9 $$")
    equal(-9, code)
    local text
    _, text, _, code = timed(blocking.popen, "echo one; sleep 0.1; echo two; exit 5")
    equal("one\ntwo\n", text)
    equal(5, code)
    _, _, code = timed(blocking.popen_write, "read x; sleep 0.1; exit $x", "6\n")
    equal(6, code)
  ]])

  everywhere("input through FILEs", [[
    local wanted = { fgets = "a line\n", fread = "a line\n;", getc = "a", fgetc = "a",
                     getc_unlocked = "a", fscanf = "word",
                     getline = "a line\n", getdelim = "a line\n;" }
    for name, text in pairs(wanted) do
      local mine, other = blocking.pipe()
      local feeder = moonlet.spawn(function()
        moonlet.sleep(0.02)
        blocking.write(other, name == "fscanf" and "word " or "a li")
        moonlet.sleep(0.02)
        blocking.write(other, "ne\n;")
      end)
      equal(text, cooperative(blocking[name], mine, #text))
      feeder:join()
      blocking.close(other)
      if #text > 1 and name ~= "fscanf" then
        assert((blocking[name](mine, 1) or "") == "", "not at its end")
      end
      blocking.close(mine)
    end
    local mine, other = blocking.pipe()
    equal("the end", fed(function()
      blocking.write(other, "the end")
      blocking.close(other)
    end, blocking.fgets, mine))
  ]])

  everywhere("locks on files, and disks", [[
    local path = os.tmpname()
    local one, two = blocking.open(path), blocking.open(path)
    for _, name in ipairs { "flock", "ofd_setlkw" } do
      equal(0, blocking[name](one, true))
      equal(0, fed(function() blocking[name](one, false) end, blocking[name], two, true))
      equal(0, blocking[name](two, false))
    end
    for _, name in ipairs { "lockf", "setlkw" } do
      equal(0, blocking[name](one, true))
      equal(0, blocking[name](one, false))
    end
    for _, name in ipairs { "fsync", "fdatasync" } do
      local waited, result
      for _ = 1, 1000 do -- the thread may be quicker than the wait for it
        waited, result = pcall(cooperative, blocking[name], one)
        if waited then
          break
        end
      end
      assert(waited, result)
      equal(0, result)
      local _, message = blocking[name](99)
      equal("Bad file descriptor", message)
    end
    os.remove(path)
  ]])
end)
