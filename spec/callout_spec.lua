-- Each blocking function of the C library, called by a module that knows nothing of greenlets.

local callouts = require "support.callouts"
local support = require "support"

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

  everywhere("input from pipes, and terminals' ends", [[
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
    equal(NVAL, fed(function() blocking.close(mine) end, blocking.poll, mine, PRI, 9000))
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
      local pid = blocking.spawn("sleep 0.03; exit 3")
      local time, found, code = timed(blocking[name], pid)
      equal(pid, found)
      equal(3, code)
      assert(time < 5, time)
    end
    local _, message = blocking.waitpid(1)
    equal("No child processes", message)
    local time, _, code = timed(blocking.system, "sleep 0.03; exit 4")
    equal(4, code)
    _, _, code = blocking.system("kill -9 $$")
    equal(nil, code)
    _, code = blocking.system("kill -9 $$")
    equal(-9, code)
    local text
    _, text, _, code = timed(blocking.popen, "echo one; sleep 0.03; echo two; exit 5")
    equal("one\ntwo\n", text)
    equal(5, code)
    _, _, code = timed(blocking.popen_write, "read x; sleep 0.03; exit $x", "6\n")
    equal(6, code)
  ]])

  everywhere("input through FILEs", [[
    local wanted = { fgets = "a line\n", fread = "a line\n;", getc = "a", fgetc = "a",
                     getc_unlocked = "a", fscanf = "word", getline = "a line\n", getdelim = "a line\n;" }
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
      equal(0, cooperative(blocking[name], one))
      local _, message = blocking[name](99)
      equal("Bad file descriptor", message)
    end
    os.remove(path)
  ]])
end)

describe("a call that waits", function()
  local function it_does(name, code)
    it(name, function()
      callouts.run(code)
    end)
  end

  it_does("leaves descriptors alone that do not block", [[
    local mine, other = blocking.socketpair()
    blocking.nonblocking(mine)
    for _, name in ipairs { "read", "recv", "recvmsg", "readv", "recvmmsg" } do
      local _, message = blocking[name](mine)
      equal("Resource temporarily unavailable", message)
    end
    local sent = blocking.write(mine, ("x"):rep(4000000))
    assert(sent > 0 and sent < 4000000, sent)
    local pipe = blocking.pipe()
    blocking.nonblocking(pipe)
    local _, message = blocking.read(pipe)
    equal("Resource temporarily unavailable", message)
    assert(other)
  ]])

  it_does("has the limits that SO_RCVTIMEO and SO_SNDTIMEO set", [[
    local mine, other = blocking.socketpair()
    blocking.limit(mine, 0.03)
    for _, name in ipairs { "read", "recv", "recvfrom", "recvmsg" } do
      local time, _, message = timed(blocking[name], mine)
      equal("Resource temporarily unavailable", message)
      assert(time >= 0.03 and time < 5, time)
    end
    local time, sent = timed(blocking.write, mine, ("x"):rep(4000000))
    assert(sent > 0 and sent < 4000000, sent)
    assert(time >= 0.03 and time < 5, time)
    assert(other)
  ]])

  it_does("finds its descriptor closed or replaced by another greenlet", [[
    for _, name in ipairs { "close", "dup2", "dup3" } do
      local mine, other = blocking.socketpair()
      local third = blocking.pipe()
      local _, message = fed(function()
        if name == "close" then
          blocking.close(mine)
        else
          blocking[name](third, mine)
        end
      end, blocking.read, mine)
      equal("Bad file descriptor", message)
      blocking.close(other)
    end
    local mine, other = blocking.socketpair()
    blocking.close(mine)
    local again, its_other = blocking.socketpair()
    equal(mine, again)
    equal("new", fed(function() blocking.write(its_other, "new") end, blocking.read, again))
    assert(other)
  ]])

  it_does("keeps errno of each greenlet", [[
    local mine = blocking.socketpair()
    local greenlets = {}
    for i = 1, 20 do
      greenlets[i] = moonlet.spawn(blocking.errno_across, mine, i, i % 7 + 1)
    end
    moonlet.joinall(greenlets)
    for i = 1, 20 do
      equal(i, greenlets[i].value)
    end
  ]])

  it_does("goes on after a signal", [[
    local mine, other = blocking.pipe()
    local function feed()
      blocking.write(other, "on")
    end
    local text, signals = fed(feed, blocking.alarmed_read, mine)
    equal("on", text)
    assert(signals > 0)
  ]])

  it_does("reads in the child of a fork, where nobody else lives", [[
    local mine, other = blocking.pipe()
    local pid
    moonlet.spawn(function() pid = blocking.fork_and_read(mine) end):join()
    blocking.write(other, "12345")
    local found, code = blocking.waitpid(pid)
    equal(pid, found)
    equal(5, code)
  ]])

  it_does("gives others a turn, though it never has to wait", [[
    local mine, other = blocking.socketpair()
    local turns, done = 0, false
    moonlet.spawn(function()
      repeat
        turns = turns + 1
        moonlet.sleep(0)
      until done
    end)
    local finish = moonlet.now() + 0.2
    while moonlet.now() < finish do
      blocking.write(other, "x")
      equal("x", blocking.read(mine))
    end
    done = true
    assert(turns > 2, turns)
  ]])

  it_does("may be anywhere in a program: in a coroutine, a comparator, a finalizer", [[
    local mine, other = blocking.socketpair()
    local co = coroutine.wrap(function()
      for _ = 1, 2 do
        coroutine.yield(fed(function() blocking.write(other, "co") end, blocking.read, mine))
      end
    end)
    equal("co", co())
    equal("co", co())
    table.sort({ 1, 2 }, function(a, b)
      equal("sort", fed(function() blocking.write(other, "sort") end, blocking.read, mine))
      return a < b
    end)
    local slept
    setmetatable({}, { __gc = function() slept = blocking.usleep(1) end })
    collectgarbage()
    equal(0, slept)
  ]])

  it_does("lets many wait at once", [[
    local start, greenlets = moonlet.now(), {}
    for i = 1, 200 do
      greenlets[i] = moonlet.spawn(blocking.usleep, 100)
    end
    moonlet.joinall(greenlets, nil, true)
    assert(moonlet.now() - start < 10)
    local ends = {}
    for i = 1, 50 do
      local mine, other = blocking.socketpair()
      ends[i] = other
      greenlets[i] = moonlet.spawn(blocking.read, mine)
    end
    moonlet.sleep(0)
    for i = 50, 1, -1 do
      blocking.write(ends[i], tostring(i))
    end
    for i = 1, 50 do
      equal(tostring(i), greenlets[i]:get())
    end
  ]])
end)

describe("a library that another one loads", function()
  local LOAD = [[
    local function check(module)
      local mine, other = blocking.socketpair()
      equal("input", fed(function() blocking.write(other, "input") end, module.read, mine))
      equal("fgets", fed(function()
        blocking.write(other, "fgets")
        blocking.close(other)
      end, module.fgets, mine))
      blocking.close(mine)
    end
  ]]

  it("is patched, though found only by the paths of the one that loads it", function()
    callouts.run(LOAD .. [[
      local _, loaded = blocking.load("now.so")
      check(loaded)
      equal(false, (pcall(blocking.load, "no such library.so")))
    ]])
  end)

  it("is patched, though it binds to its own libraries first", function()
    -- (The sanitizers refuse to load it so.)
    callouts.run(LOAD .. ([[
      local _, loaded = blocking.load("now.so", %s)
      check(loaded)
    ]]):format(not support.sanitized))
  end)

  it("is patched each time that it is loaded", function()
    callouts.run(LOAD .. [[
      for _ = 1, 3 do
        local handle, loaded = blocking.load("now.so")
        check(loaded)
        blocking.unload(handle)
      end
    ]])
  end)
end)

describe("a kill or a Timeout", function()
  local function it_does(name, code)
    it(name, function()
      callouts.run(code)
    end)
  end

  it_does("ends the call without jumping over the library, and is raised when it returns", [[
    local mine, other = blocking.socketpair()
    local after = false
    local g = moonlet.spawn(function()
      blocking.guarded_read(mine)
      after = true
    end)
    moonlet.sleep(0)
    assert(g:kill())
    assert(g.value:is(moonlet.GreenletExit))
    equal(false, after)
    equal(0, inside)
    assert(other)
  ]])

  it_does("is raised when it is the library's caller that ends", [[
    local mine = blocking.socketpair()
    local g = moonlet.spawn(blocking.guarded_read, mine)
    moonlet.sleep(0)
    assert(g:kill())
    assert(g.value:is(moonlet.GreenletExit))
    equal(0, inside)
    equal("timeout", (select(2, moonlet.with_timeout(0.02, blocking.guarded_read, mine))))
    local limit = moonlet.Timeout(0.02)
    limit:start()
    local ok, err = pcall(blocking.read, mine)
    assert(not ok and err == limit)
    limit = moonlet.Timeout(0.02)
    ok, err = pcall(limit.run, limit, function() return blocking.read(mine) end)
    assert(not ok and err == limit)
  ]])

  it_does("takes the place of the error by which a library says that its call has ended", [[
    local mine = blocking.socketpair()
    local g = moonlet.spawn(blocking.checked_read, mine)
    moonlet.sleep(0)
    assert(g:kill())
    assert(g.value:is(moonlet.GreenletExit))
    g = moonlet.spawn(function()
      local ok, err = pcall(blocking.checked_read, mine)
      return ok, err
    end)
    moonlet.sleep(0)
    assert(g:kill())
    assert(g.value:is(moonlet.GreenletExit))
    local ok, err = pcall(blocking.checked_read, 99)
    equal("cannot read: Bad file descriptor", err)
    equal(false, ok)
  ]])

  it_does("ends each kind of call", [[
    local mine, other = blocking.socketpair()
    local server = blocking.listen()
    local full = select(2, blocking.pipe())
    local path = os.tmpname()
    local one, two = blocking.open(path), blocking.open(path)
    blocking.flock(one, true)
    local _, child
    local calls = {
      { "read", mine }, { "recv", mine }, { "recvmsg", mine }, { "recvmmsg", mine },
      { "write", mine, ("x"):rep(4000000) }, { "sendmsg", mine, ("x"):rep(4000000) },
      { "write", full, ("x"):rep(4000000) }, { "accept", server },
      { "poll", other, 2, 60000 }, { "select", server, 1, 60000 },
      { "epoll_wait", server, 1, 60000 },
      { "sleep", 60000 }, { "usleep", 60000000 }, { "nanosleep", 60000 },
      { "sleep_until", 60000 }, { "sleep_stubbornly", 60000 },
      { "waitpid", blocking.spawn("exec sleep 9") }, { "wait" }, { "system", "exec sleep 3" },
      { "popen", "exec sleep 3" }, { "fgets", server }, { "getline", mine }, { "getc", mine },
      { "flock", two, true },
    }
    for _, call in ipairs(calls) do
      local name = call[1]
      local f, start = blocking[name], moonlet.now()
      local limit <close> = moonlet.Timeout(0.01):start()
      local ok, err = pcall(f, table.unpack(call, 2))
      if ok or err ~= limit then
        error(name .. ": " .. tostring(err))
      end
      assert(moonlet.now() - start < 2, name)
    end
    os.remove(path)
    assert(_ == child)
  ]])

  it_does("waits for a shield to end", [[
    local mine, other = blocking.socketpair()
    local got
    local g = moonlet.spawn(function()
      moonlet.shield(function() got = blocking.read(mine) end)
      error("not reached")
    end)
    moonlet.sleep(0)
    g:kill(nil, 0)
    moonlet.sleep(0)
    blocking.write(other, "shielded")
    g:join()
    equal("shielded", got)
    assert(g.value:is(moonlet.GreenletExit))
  ]])

  it_does("leaves nothing behind", [[
    local before = moonlet.stats()
    local mine = blocking.socketpair()
    for _ = 1, 20 do
      local list = { moonlet.spawn(blocking.read, mine), moonlet.spawn(blocking.usleep, 1e6),
                     moonlet.spawn(blocking.poll, mine, 1, -1),
                     moonlet.spawn(blocking.poll, mine, 2, -1) }
      moonlet.sleep(0)
      moonlet.killall(list)
    end
    collectgarbage()
    local after = moonlet.stats()
    for _, name in ipairs { "greenlets", "timers", "watchers", "pinned" } do
      equal(before[name], after[name])
    end
  ]])

  it_does("at the end of the program finds no one in the way", [[
    local mine = blocking.socketpair()
    for _ = 1, 3 do
      moonlet.spawn(blocking.read, mine)
      moonlet.spawn(blocking.usleep, 1e6)
    end
    moonlet.sleep(0)
  ]])

  it_does("at the end of the Lua state, too", [[
    local mine = blocking.socketpair()
    for _ = 1, 3 do
      moonlet.spawn(blocking.read, mine)
      moonlet.spawn(blocking.poll, mine, 1, -1)
    end
    moonlet.spawn(function()
      setmetatable({}, { __gc = function() blocking.usleep(1) end })
      blocking.usleep(1e6)
    end)
    moonlet.sleep(0)
    os.exit(true, true)
  ]])
end)

describe("all kinds of calls at once", function()
  it("get in no way of one another", function()
    callouts.run([[
      local finish = moonlet.now() + 0.5
      local kinds = {}
      function kinds.talk(i)
        local mine, other = blocking.socketpair()
        moonlet.spawn(function()
          repeat
            local text = blocking.recv(other)
            blocking.usleep(i * 10)
            blocking.send(other, text)
          until text == ""
        end)
        return function(n)
          local text = i .. ":" .. n
          blocking.write(mine, text)
          equal(text, blocking.read(mine))
        end
      end
      function kinds.pipe(i)
        local mine, other = blocking.pipe()
        return function(n)
          local writer = moonlet.spawn(blocking.write, other, ("p"):rep(n * 1000 + i))
          local got = 0
          repeat
            got = got + #blocking.read(mine)
          until got == n * 1000 + i
          writer:join()
        end
      end
      function kinds.poll(i)
        local mine, other = blocking.socketpair()
        return function(n)
          equal(0, blocking.poll(mine, 1, i))
          moonlet.spawn(blocking.write, other, "!")
          equal(1, blocking.select(mine, 1, 9000))
          equal("!", blocking.read(mine))
        end
      end
      function kinds.child(i)
        return function(n)
          equal(tostring(n), (blocking.popen("echo -n " .. n)))
          equal(i, (select(2, blocking.system("exit " .. i))))
        end
      end
      function kinds.name()
        return function()
          equal("127.0.0.1", blocking.getaddrinfo("localhost"))
        end
      end
      function kinds.kill(i)
        local mine = blocking.socketpair()
        return function(n)
          local g = moonlet.spawn(n % 2 == 0 and blocking.read or blocking.guarded_read, mine)
          blocking.usleep(i * 100)
          assert(g:kill())
          equal(nil, (moonlet.with_timeout(0.001, blocking.fgets, mine)))
        end
      end
      local greenlets = {}
      for _, make in pairs(kinds) do
        for i = 1, 6 do
          greenlets[#greenlets + 1] = moonlet.spawn(function()
            local act, n = make(i), 0
            while moonlet.now() < finish do
              n = n + 1
              act(n)
            end
            return n
          end)
        end
      end
      moonlet.joinall(greenlets, nil, true)
      for _, g in ipairs(greenlets) do
        assert(g.value > 0)
      end
    ]])
  end)
end)
