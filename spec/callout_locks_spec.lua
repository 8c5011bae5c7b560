-- pthread locks of C libraries that greenlets hold while they wait.

local pitfalls = require "support.pitfalls"

local function run(code)
  return pitfalls.run("locks", code)
end

describe("a mutex that a waiting greenlet holds", function()
  for _, kind in ipairs { "normal", "recursive", "checked" } do
    it("keeps other greenlets of the thread waiting: " .. kind, function()
      run(([[
        local lock = locks.new "%s"
        local ticks, ticker = 0, nil
        ticker = moonlet.spawn(function()
          while true do
            moonlet.sleep(0.001)
            ticks = ticks + 1
          end
        end)
        for _, inside in ipairs(all(10, lock.hold, lock, 0.005)) do
          equal(1, inside)
        end
        equal(1, lock:most())
        assert(ticks > 2, ticks)
        ticker:kill()
      ]]):format(kind))
    end)
  end

  it("may be locked several times by its greenlet, if it is recursive", function()
    run [[
      local lock = locks.new "recursive"
      equal(true, lock:lock())
      for _, inside in ipairs(all(0, lock.hold, lock, 0.002, 3)) do
        equal(1, inside)
      end
      equal(1, lock:hold(0.002, 3))
      equal(true, lock:unlock())
      for _, inside in ipairs(all(5, lock.hold, lock, 0.002, 3)) do
        equal(1, inside)
      end
    ]]
  end)

  it("is refused to its own greenlet, if it is checked", function()
    run [[
      local lock = locks.new "checked"
      moonlet.spawn(function()
        equal(true, lock:lock())
        local _, message = lock:lock()
        equal("Resource deadlock avoided", message)
        equal(true, lock:unlock())
        _, message = lock:unlock()
        equal("Operation not permitted", message)
      end):get()
    ]]
  end)

  it("is given in the order in which greenlets came", function()
    run [[
      local lock, order = locks.new(), {}
      local holder = moonlet.spawn(lock.hold, lock, 0.01)
      for i = 1, 5 do
        moonlet.spawn(function()
          lock:lock()
          order[#order + 1] = i
          lock:unlock()
        end)
      end
      holder:get()
      eventually(function() return #order == 5 end)
      equal("1 2 3 4 5", table.concat(order, " "))
    ]]
  end)

  it("is found locked by trylock, and by those with a limit when it is over", function()
    run [[
      for _, kind in ipairs { "normal", "recursive", "checked" } do
        local lock = locks.new(kind)
        local holder = moonlet.spawn(lock.hold, lock)
        moonlet.sleep(0.001)
        local _, message = lock:trylock()
        equal("Device or resource busy", message)
        for _, name in ipairs { "timedlock", "clocklock" } do
          _, message = cooperative(lock[name], lock, 0.05)
          equal("Connection timed out", message)
        end
        let_go_later(lock)
        equal(true, lock:timedlock(10))
        assert(holder:ready())
        equal(true, lock:trylock() == (kind == "recursive" or nil))
        lock:unlock()
        if kind == "recursive" then lock:unlock() end
        equal(true, moonlet.spawn(lock.trylock, lock):get())
        equal(true, lock:unlock())
      end
    ]]
  end)

  it("may be unlocked by another greenlet, if it is a normal one", function()
    run [[
      local lock = locks.new()
      equal(true, lock:lock())
      moonlet.spawn(function()
        moonlet.sleep(0.005)
        lock:unlock()
      end)
      equal(true, cooperative(lock.lock, lock))
      lock:unlock()
    ]]
  end)

  it("stays locked when its greenlet waits in Lua, called back by the library", function()
    run [[
      local lock = locks.new "recursive"
      all(5, lock.call, lock, moonlet.sleep, 0.003)
      equal(1, lock:most())
    ]]
  end)

  it("is kept by a greenlet that is killed until the library has returned", function()
    run [[
      local lock, returned = locks.new(), nil
      local holder = moonlet.spawn(function()
        local _ <close> = setmetatable({}, { __close = function() returned = true end })
        lock:hold(10)
      end)
      local waiter = moonlet.spawn(lock.hold, lock, 0)
      moonlet.sleep(0.005)
      holder:kill()
      equal(true, returned)
      equal(1, waiter:get())
    ]]
  end)

  it("is got by a greenlet that is killed while it waits for it; then it ends", function()
    run [[
      local lock, went_on = locks.new(), false
      local holder = moonlet.spawn(lock.hold, lock)
      local waiter = moonlet.spawn(function()
        lock:hold(0)
        went_on = true
      end)
      moonlet.sleep(0.001)
      waiter:kill(nil, 0)
      moonlet.sleep(0.005)
      equal(false, waiter:ready())
      lock:let_go()
      waiter:join()
      equal(false, went_on)
      assert(holder:ready())
      equal(1, lock:most())
      equal(1, lock:hold(0))
    ]]
  end)

  it("is got by a greenlet of which the Timeout is over, which is raised afterwards", function()
    run [[
      local lock = locks.new "recursive"
      local holder = moonlet.spawn(lock.hold, lock)
      moonlet.sleep(0.001)
      local limit = moonlet.Timeout(0.005)
      local ok, value = pcall(limit.run, limit, function()
        let_go_later(lock)
        lock:hold(0)
        moonlet.sleep(0)
      end)
      equal(false, ok)
      equal(limit, value)
      assert(holder:ready())
      equal(1, lock:most())
      equal(1, lock:hold(0))
    ]]
  end)

  it("is got in the end when the runtime is closed", function()
    run [[
      local lock = locks.new()
      for _ = 1, 5 do
        moonlet.spawn(lock.hold, lock, 10)
      end
      moonlet.sleep(0.005)
      os.exit(0, true)
    ]]
  end)

  it("that can never be got is an error in main, and named", function()
    local _, stderr = pitfalls.run_noisily("locks", [[
      local lock = locks.new()
      local holder = moonlet.spawn(function()
        lock:lock()
        require("moonlet.event").Event():wait()
      end)
      holder.name = "holder"
      moonlet.sleep(0)
      local ok, value = pcall(function() return lock:hold(0), "it went on" end)
      equal(false, ok)
      assert(tostring(value):find("block forever"), tostring(value))
    ]])
    assert.matches("pthread_mutex_lock cannot wait here for 0x%x+, held by holder", stderr)
  end)

  it("is named, and its greenlet, where greenlets are listed", function()
    run [[
      local lock = locks.new()
      local holder = moonlet.spawn(lock.hold, lock)
      holder.name = "the holder"
      local waiter = moonlet.spawn(lock.hold, lock, 0)
      moonlet.sleep(0.001)
      local text = {}
      moonlet.run_info(function(piece) text[#text + 1] = piece end)
      text = table.concat(text)
      assert(text:find("pthread_mutex_lock %(0x%x+ is held by the holder%)"), text)
      lock:let_go()
      waiter:get()
    ]]
  end)
end)

describe("a mutex that another thread holds", function()
  it("is waited for, and other greenlets run", function()
    run [[
      for _, kind in ipairs { "normal", "recursive", "checked" } do
        local lock = locks.new(kind)
        lock:hold_in_thread()
        let_go_later(lock)
        equal(1, cooperative(lock.hold, lock, 0))
        lock:hold_in_thread()
        let_go_later(lock)
        for _, inside in ipairs(all(5, lock.hold, lock, 0.002)) do
          equal(1, inside)
        end
        lock:hold_in_thread()
        local _, message = cooperative(lock.timedlock, lock, 0.05)
        equal("Connection timed out", message)
        let_go_later(lock)
        equal(true, lock:timedlock(10))
        equal(true, lock:unlock())
      end
    ]]
  end)

  it("is got by who was killed meanwhile", function()
    run [[
      local lock = locks.new()
      lock:hold_in_thread()
      local waiter = moonlet.spawn(lock.hold, lock, 0)
      moonlet.sleep(0.005)
      waiter:kill(nil, 0)
      moonlet.sleep(0.005)
      equal(false, waiter:ready())
      lock:let_go()
      waiter:join()
      equal(true, lock:trylock())
    ]]
  end)
end)

describe("a robust mutex", function()
  it("is got, and to be mended, when the thread has ended that held it", function()
    run [[
      local lock = locks.new "robust"
      lock:abandon()
      local _, message = lock:lock()
      equal("Owner died", message)
      equal(true, lock:mend())
      local waiter = moonlet.spawn(lock.hold, lock, 0)
      moonlet.sleep(0.001)
      equal(false, waiter:ready())
      equal(true, lock:unlock())
      equal(1, waiter:get())
    ]]
  end)
end)

describe("a read-write lock that a waiting greenlet holds", function()
  it("lets readers in, and no writer", function()
    run [[
      local lock = locks.new()
      local readers = {}
      for i = 1, 5 do readers[i] = moonlet.spawn(lock.read, lock) end
      moonlet.sleep(0.001)
      local _, message = lock:timedwrite(0.002)
      equal("Connection timed out", message)
      let_go_later(lock)
      equal(1, cooperative(lock.write, lock, 0.001))
      equal(5, lock:most())
      for i = 1, 5 do assert(readers[i]:ready()) end
    ]]
  end)

  it("for writing lets nobody in, and then all readers", function()
    run [[
      local lock = locks.new()
      local writers, readers = {}, {}
      for i = 1, 3 do writers[i] = moonlet.spawn(lock.write, lock, 0.005) end
      for i = 1, 5 do readers[i] = moonlet.spawn(lock.read, lock, 0.005) end
      moonlet.joinall(writers, nil, true)
      for i = 1, 3 do equal(1, writers[i].value) end
      moonlet.joinall(readers, nil, true)
      equal(5, lock:most())
    ]]
  end)
end)

describe("pthread_once", function()
  it("has others wait for its function, which waits, and runs it once", function()
    run [[
      local lock = locks.new()
      local ticks, ticker = 0, nil
      ticker = moonlet.spawn(function()
        while true do
          moonlet.sleep(0.001)
          ticks = ticks + 1
        end
      end)
      for _, value in ipairs(all(5, lock.once, lock, 0.02)) do
        equal(1, value)
      end
      assert(ticks > 0)
      ticker:kill()
      equal(1, lock:once(0))
    ]]
  end)
end)

describe("a condition variable", function()
  it("has a greenlet wait until another one signals it", function()
    run [[
      local lock = locks.new()
      local takers = {}
      for i = 1, 3 do takers[i] = moonlet.spawn(lock.take, lock) end
      moonlet.sleep(0.005)
      for i = 1, 3 do
        equal(false, takers[i]:ready())
        lock:put()
        equal(true, takers[i]:get())
      end
      equal(3, lock:calls())
    ]]
  end)

  it("tells all when it is broadcast", function()
    run [[
      local lock = locks.new()
      local takers = {}
      for i = 1, 5 do takers[i] = moonlet.spawn(lock.take, lock) end
      moonlet.sleep(0.001)
      lock:put(5)
      moonlet.joinall(takers, nil, true)
      equal(5, lock:calls())
    ]]
  end)

  it("is signalled by other threads", function()
    run [[
      local lock = locks.new()
      for _ = 1, 20 do
        lock:put_in_thread()
        moonlet.spawn(lock.let_go, lock)
        equal(true, cooperative(lock.take, lock))
      end
      for _ = 1, 5 do lock:put_in_thread(0.005) end
      all(5, lock.take, lock)
    ]]
  end)

  it("is not waited for longer than the limit, whatever the clock", function()
    run [[
      local lock = locks.new()
      local function check(name, ...)
        local start = moonlet.now()
        local _, message = cooperative(lock[name], lock, ...)
        equal("Connection timed out", message)
        local took = moonlet.now() - start
        assert(took >= 0.0499 and took < 5, took)
      end
      check("take", 0.05)
      check("take", 0.05, true)
      check("clocktake", 0.05)
      moonlet.spawn(function()
        moonlet.sleep(0.005)
        lock:put(2)
      end)
      equal(true, lock:take(10))
      equal(true, lock:clocktake(10))
    ]]
  end)

  it("is waited for until it is signalled by who was killed meanwhile", function()
    run [[
      local lock, went_on = locks.new(), false
      local taker = moonlet.spawn(function()
        lock:take()
        went_on = true
      end)
      moonlet.sleep(0.001)
      taker:kill(nil, 0)
      moonlet.sleep(0.005)
      equal(false, taker:ready())
      equal(1, lock:calls())
      lock:put()
      taker:join()
      equal(false, went_on)
      equal(nil, lock:take(0.001))
    ]]
  end)

  it("with a limit takes a kill for its end", function()
    run [[
      local lock = locks.new()
      local taker = moonlet.spawn(lock.take, lock, 30)
      moonlet.sleep(0.001)
      local start = moonlet.now()
      taker:kill()
      assert(moonlet.now() - start < 5)
      lock:put()
      equal(true, lock:take())
    ]]
  end)
end)

describe("a semaphore", function()
  it("has a greenlet wait until another one posts it, or a thread", function()
    run [[
      local waiters = {}
      for i = 1, 3 do waiters[i] = moonlet.spawn(locks.wait_semaphore) end
      moonlet.sleep(0.001)
      for i = 1, 3 do
        equal(false, waiters[i]:ready())
      end
      for _ = 1, 3 do locks.post() end
      for i = 1, 3 do
        equal(true, waiters[i]:get())
      end
      moonlet.spawn(locks.join)
      equal(true, cooperative(locks.wait_semaphore))
    ]]
  end)

  it("is not waited for longer than the limit", function()
    run [[
      local _, message = cooperative(locks.wait_semaphore, 0.05)
      equal("Connection timed out", message)
      locks.post()
      equal(true, locks.wait_semaphore(0))
    ]]
  end)

  it("is got by who was killed meanwhile", function()
    run [[
      local waiter = moonlet.spawn(locks.wait_semaphore)
      moonlet.sleep(0.001)
      waiter:kill(nil, 0)
      moonlet.sleep(0.001)
      equal(false, waiter:ready())
      locks.post()
      waiter:join()
      local _, message = locks.wait_semaphore(0)
      equal("Connection timed out", message)
    ]]
  end)
end)

describe("pthread_join", function()
  it("lets others run until the thread has ended", function()
    run [[
      equal(true, cooperative(locks.join))
      for _, joined in ipairs(all(5, locks.join)) do
        equal(true, joined)
      end
    ]]
  end)
end)

describe("in a finalizer", function()
  it("a lock that a waiting greenlet holds is refused, and no unlocking unlocks it", function()
    for _, kind in ipairs { "normal", "recursive" } do
      local _, stderr = pitfalls.run_noisily("locks", ([[
        local lock = locks.new "%s"
        local holder = moonlet.spawn(lock.hold, lock)
        moonlet.sleep(0.001)
        locks.guard(lock)
        collectgarbage()
        local ok, message = lock:finalized()
        equal(nil, ok)
        equal("Resource deadlock avoided", message)
        local _, busy = lock:trylock()
        equal("Device or resource busy", busy)
        lock:let_go()
        equal(1, holder:get())
        equal(1, lock:hold(0))
        equal(1, lock:most())
        locks.guard(lock)
        collectgarbage()
        equal(true, lock:finalized())
      ]]):format(kind))
      assert.matches("deadlock: pthread_mutex_lock cannot wait here .*, held by Greenlet%-", stderr)
    end
  end)

  it("a lock that another thread holds is really waited for", function()
    run [[
      local lock = locks.new()
      lock:hold_in_thread(0.02)
      locks.guard(lock)
      collectgarbage()
      equal(true, lock:finalized())
    ]]
  end)
end)

describe("locks of all kinds at once", function()
  it("are got by one after the other, whoever is killed and whichever threads there are", function()
    run [[
      math.randomseed(1)
      local list = { locks.new "normal", locks.new "recursive", locks.new "checked" }
      local shared, queue = locks.new(), locks.new()
      local function any() return list[math.random(#list)] end
      local function moment() return math.random() * 0.003 end
      local kinds = {
        function() any():hold(moment()) end,
        function() list[2]:hold(moment(), 3) end,
        function() list[2]:call(moonlet.sleep, 0.001) end,
        function() list[1]:put_in_thread(0) end,
        function() shared:read(moment()) end,
        function() equal(1, shared:write(moment())) end,
        function() shared:timedwrite(moment()) end,
        function() queue:put() end,
        function() queue:take(moment()) end,
        function() queue:clocktake(moment()) end,
        function() locks.post() locks.wait_semaphore(0.01) end,
      }
      local finish = moonlet.now() + 1
      local function work()
        while moonlet.now() < finish do
          kinds[math.random(#kinds)]()
        end
      end
      local workers = {}
      for i = 1, 30 do workers[i] = moonlet.spawn(work) end
      while moonlet.now() < finish do
        moonlet.sleep(0.003)
        workers[math.random(#workers)]:kill(nil, 0)
        workers[#workers + 1] = moonlet.spawn(work)
      end
      moonlet.joinall(workers)
      for _, lock in ipairs(list) do
        equal(1, lock:most())
        equal(true, lock:trylock())
        equal(true, lock:unlock())
      end
      equal(1, shared:write(0))
    ]]
  end)
end)
