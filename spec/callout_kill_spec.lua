-- Kills and Timeouts of greenlets that wait inside a C library.

local callouts = require "support.callouts"

local function it_does(name, code)
  it(name, function()
    callouts.run(code)
  end)
end

describe("a kill or a Timeout", function()
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

  it_does("is raised at the next wait where the program has a hook of its own", [[
    local mine, other = blocking.socketpair()
    local message
    local g = moonlet.spawn(function()
      debug.sethook(function() end, "", 1000000)
      message = select(2, blocking.read(mine))
      blocking.write(other, "ready")
      message = message .. ", " .. blocking.read(mine)
      blocking.read(mine)
      moonlet.sleep(0)
      message = "not raised"
    end)
    moonlet.sleep(0)
    assert(g:kill())
    assert(g.value:is(moonlet.GreenletExit))
    equal("Operation canceled, ready", message)
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
