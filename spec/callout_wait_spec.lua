-- How calls of C libraries wait, and what else goes on meanwhile.

local callouts = require "support.callouts"
local program = require "support.program"
local support = require "support"

local function it_does(name, code)
  it(name, function()
    callouts.run(code)
  end)
end

describe("a call that waits", function()
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

  it_does("is named where greenlets are listed", [[
    local mine = blocking.socketpair()
    local g = moonlet.spawn(blocking.read, mine)
    moonlet.sleep(0)
    local text = {}
    moonlet.run_info(function(piece) text[#text + 1] = piece end)
    assert(table.concat(text):find("waits in read", 1, true), table.concat(text))
    g:kill()
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
    local finish = moonlet.now() + 10
    while turns <= 2 and moonlet.now() < finish do
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

describe("patch_c", function()
  it("may be the first that a program does", function()
    local result = support.run_script [[
      require("moonlet.monkey").patch_c()
      assert(require("moonlet.monkey").is_patched "c")
    ]]
    assert.equal("", result.stderr)
    assert.equal(0, result.status)
  end)
end)

describe("without patch_c", function()
  it("a call blocks the whole program", function()
    program.run_quietly(([[
      local blocking = assert(package.loadlib(%q, "luaopen_blocking"))()
      local ran = false
      moonlet.spawn(function() ran = true end)
      blocking.usleep(10)
      equal(0, blocking.poll(-1, 1, 10))
      equal(false, ran)
    ]]):format(callouts.path "lazy"))
  end)
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

  it("lets nobody else run from its constructors", function()
    callouts.run(LOAD .. [[
      local ran = false
      moonlet.spawn(function() ran = true end)
      local _, loaded = blocking.load("now.so", false, true)
      equal(false, ran)
      check(loaded)
    ]])
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
            repeat
              n = n + 1
              act(n)
            until moonlet.now() > finish
            return n
          end)
        end
      end
      moonlet.joinall(greenlets, nil, true)
    ]])
  end)
end)
