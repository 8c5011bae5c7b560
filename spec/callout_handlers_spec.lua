-- Where no greenlet may wait: handlers of signals, lookups of users, finalizers; and children.

local pitfalls = require "support.pitfalls"

local TICKER = [[
  local ticker = moonlet.spawn(function()
    while true do
      moonlet.sleep(0.001)
      thread.tick()
    end
  end)
  moonlet.sleep(0.005)
]]

local function run(code)
  return pitfalls.run("thread", TICKER .. code)
end

describe("no greenlet runs in the middle of", function()
  it("a signal's handler, however it was installed", function()
    run [[
      for _, way in ipairs { "signal", "sigaction", "information", "other stack" } do
        local ticks, as_installed = thread.handle(way, 0.01)
        equal(0, ticks)
        equal(true, as_installed)
        cooperative(thread.wait, 0.002)
      end
    ]]
  end)

  it("a lookup of users, which is made by modules with a lock held", function()
    pitfalls.run("thread", ([[
      assert(package.loadlib(%q, "*"))
      equal(true, thread.look_up_slowly())
      local inside = false
      local function look_up()
        equal(false, inside)
        inside = true
        local home = thread.user "somebody"
        inside = false
        return home
      end
      for _, home in ipairs(all(3, look_up)) do
        equal("/home/slow", home)
      end
    ]]):format(pitfalls.find "libnss_slow.so"))
  end)

  it("a finalizer", function()
    run [[
      local mine, other = thread.pair()
      local sender = moonlet.spawn(function() thread.send(other, "late") end)
      thread.guard(mine)
      local start = moonlet.now()
      collectgarbage()
      assert(moonlet.now() - start < 10)
      equal("Connection timed out", thread.finalizer_got())
      equal(false, sender:ready())
      sender:get()
      thread.guard(mine)
      collectgarbage()
      equal("late", thread.finalizer_got())
    ]]
  end)
end)

describe("other greenlets run", function()
  it("after a handler that was left by a jump", function()
    run [[
      assert(thread.jump(0.02) > 0)
      assert(moonlet.spawn(thread.jump, 0.02):get() > 0)
      equal(0, thread.handle("sigaction", 0.005))
      cooperative(thread.wait, 0.001)
    ]]
  end)

  it("while a library receives and receives, and never has to wait", function()
    run [[
      assert(thread.never_wait(0.2) > 0)
      assert(moonlet.spawn(thread.never_wait, 0.2):get() > 0)
    ]]
  end)
end)

describe("in a child", function()
  it("of a library's fork only the greenlet runs that has forked", function()
    run [[
      equal(0, thread.fork_and_wait(0.02))
      equal(0, moonlet.spawn(thread.fork_and_wait, 0.02):get())
      cooperative(thread.wait, 0.001)
    ]]
  end)

  it("of a library's vfork nothing happens to what the parent waits for", function()
    run [[
      local mine, other = thread.pair()
      local receiver = moonlet.spawn(thread.receive, mine)
      moonlet.sleep(0.001)
      equal(0, thread.vfork_and_close(mine, 0.01))
      moonlet.sleep(0.001)
      equal(false, receiver:ready())
      equal(0, moonlet.spawn(thread.vfork_and_close, mine, 0.01):get())
      equal(false, thread.is_blocked(10))
      thread.send(other, "here")
      equal("here", receiver:get())
    ]]
  end)
end)
