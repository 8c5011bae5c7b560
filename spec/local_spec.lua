local moonlet = require "moonlet"
local Local = require "moonlet.local"
local support = require "support"

describe("moonlet.local", function()
  it("keeps the fields of each greenlet apart", function()
    local stash, seen = Local(), support.trace()
    local list = {}
    for i = 1, 2 do
      list[i] = moonlet.spawn(function()
        stash.x = i
        moonlet.sleep(0)
        seen(stash.x)
      end)
    end
    moonlet.joinall(list)
    assert.equal("1 2", tostring(seen))
    assert.is_nil(stash.x)
  end)

  it("gives nil for what another greenlet, or main, has set", function()
    local stash = Local()
    stash.x = "main's"
    assert.is_nil(moonlet.spawn(function() return stash.x end):get())
    assert.equal("main's", stash.x)
  end)

  it("is one namespace for each object", function()
    local a, b = Local(), Local()
    a.x = 1
    assert.is_nil(b.x)
  end)

  it("takes any key and any value, and nil removes a field", function()
    local stash, key = Local(), {}
    stash[key] = false
    stash[1] = "one"
    assert.is_false(stash[key])
    assert.equal("one", stash[1])
    stash[1] = nil
    assert.is_nil(stash[1])
  end)

  it("shows the current greenlet's fields to pairs, and no others", function()
    local stash = Local()
    stash.main = true
    local keys = moonlet.spawn(function()
      stash.a, stash.b = 1, 2
      local found = {}
      for k, v in pairs(stash) do
        found[k] = v
      end
      return found
    end):get()
    assert.same({ a = 1, b = 2 }, keys)
  end)

  it("is the greenlet's also inside a coroutine, a comparator and a called metamethod", function()
    local stash = Local()
    stash.x = "mine"
    assert.equal("mine", coroutine.wrap(function() return stash.x end)())
    coroutine.wrap(function() stash.x = "set inside" end)()
    assert.equal("set inside", stash.x)
    table.sort({ 1, 2 }, function(a, b)
      moonlet.sleep(0)
      stash.sorted = true
      return a < b
    end)
    assert.is_true(stash.sorted)
  end)

  it("does not show in a greenlet what an ended one left, though its thread is reused", function()
    local stash = Local()
    for i = 1, 10 do
      moonlet.spawn(function()
        assert.is_nil(stash.x)
        stash.x = i
      end):get()
    end
  end)

  it("frees a greenlet's fields with the greenlet", function()
    local stash, weak = Local(), setmetatable({}, { __mode = "v" })
    do
      local g = moonlet.spawn(function()
        weak.value = {}
        stash.x = weak.value
      end)
      g:join()
    end
    moonlet.spawn(function() end):join()
    collectgarbage()
    collectgarbage()
    assert.is_nil(weak.value)
    assert.is_nil(stash.x)
  end)

  it("frees its fields with itself, while the greenlet lives on", function()
    local weak = setmetatable({}, { __mode = "v" })
    local function fill()
      local stash = Local()
      weak.value = {}
      stash.x = weak.value
    end
    fill()
    collectgarbage()
    collectgarbage()
    assert.is_nil(weak.value)
  end)

  it("says in tostring what it is", function()
    assert.matches("[Ll]ocal", tostring(Local()))
  end)
end)

describe("moonlet.local, subclassed", function()
  it("runs its initialiser in each greenlet that touches it, once, with the arguments", function()
    local Session, seen = Local:extend(), support.trace()
    function Session:new(a, b)
      seen(a .. b)
      self.started = a
    end
    local session = Session("x", "y")
    local g = moonlet.spawn(function()
      session.other = 1
      return session.started, session.other, session.started
    end)
    assert.same({ "x", 1, "x" }, { g:get() })
    assert.equal("x", session.started)
    moonlet.spawn(function() return session.started end):join()
    assert.equal("xy xy xy", tostring(seen))
  end)

  it("keeps what the initialiser sets apart in each greenlet", function()
    local Session = Local:extend()
    function Session:new()
      self.list = {}
    end
    local session = Session()
    session.list[1] = "main"
    assert.is_nil(moonlet.spawn(function() return session.list[1] end):get())
    assert.equal("main", session.list[1])
  end)

  it("shares the defaults and methods of the class, and each greenlet may override one", function()
    local Session = Local:extend()
    Session.limit = 3
    function Session:twice()
      return self.limit * 2
    end
    local session = Session()
    moonlet.spawn(function()
      assert.equal(3, session.limit)
      session.limit = 5
      assert.equal(10, session:twice())
    end):get()
    assert.equal(6, session:twice())
  end)

  it("refuses arguments when there is no initialiser to take them", function()
    assert.is_false((pcall(Local, 1)))
  end)
end)
