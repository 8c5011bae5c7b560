local core = require "moonlet.testing.core"
local courses = require "support.courses"
local event = require "moonlet.event"
local Local = require "moonlet.local"
local moonlet = require "moonlet"
local queue = require "moonlet.queue"
local support = require "support"

local sleep, spawn = moonlet.sleep, moonlet.spawn

-- How many greenlets hold a C stack once `count` greenlets of f(gate) wait for the gate.
local function pinned_by(count, f)
  local gate, list = event.Event(), {}
  local before = moonlet.stats().pinned
  for i = 1, count do
    list[i] = spawn(f, gate)
  end
  sleep(0)
  local pinned = moonlet.stats().pinned - before
  gate:set()
  assert.equal(count, #moonlet.joinall(list, 5, true))
  return pinned
end

-- Calls f in a coroutine in a coroutine ..., so many deep.
local function inside(depth, f, ...)
  if depth == 0 then
    return f(...)
  end
  return coroutine.wrap(function(...)
    return inside(depth - 1, f, ...)
  end)(...)
end

describe("a greenlet that blocks in a coroutine of the user's", function()
  local places = {
    ["that wrap made"] = function(gate)
      coroutine.wrap(gate.wait)(gate)
    end,
    ["that is resumed"] = function(gate)
      assert(coroutine.resume(coroutine.create(gate.wait), gate))
    end,
    ["resumed under pcall, and that waits under pcall"] = function(gate)
      assert(pcall(coroutine.wrap(pcall), gate.wait, gate))
    end,
    ["that is an iterator"] = function(gate)
      local count = 0
      for done in coroutine.wrap(function()
        coroutine.yield(gate:wait())
      end) do
        assert(done)
        count = count + 1
      end
      assert(count == 1)
    end,
    ["that is an __index, and that waits in one"] = function(gate)
      local inner = setmetatable({}, { __index = function()
        return gate:wait()
      end })
      local outer = setmetatable({}, { __index = coroutine.wrap(function()
        return inner.field
      end) })
      assert(outer.field)
    end,
    ["that has yielded before"] = function(gate)
      local generate = coroutine.wrap(function()
        coroutine.yield()
        sleep(0)
        coroutine.yield()
        gate:wait()
      end)
      generate()
      generate()
      generate()
    end,
    ["in a coroutine in a coroutine"] = function(gate)
      inside(3, gate.wait, gate)
    end,
  }

  for where, f in pairs(places) do
    it(where .. " holds no C stack", function()
      assert.equal(0, pinned_by(10, f))
    end)
  end

  it("holds one where a C function is in between", function()
    assert.equal(3, pinned_by(3, function(gate)
      local waits = coroutine.wrap(gate.wait)
      assert((("x"):gsub("x", function()
        waits(gate)
      end)))
    end))
    assert.equal(3, pinned_by(3, function(gate)
      inside(1, table.sort, { 1, 2 }, function()
        gate:wait()
      end)
    end))
  end)

  it("holds one in coroutines nested very deep", function()
    assert.equal(3, pinned_by(3, function(gate)
      inside(50, gate.wait, gate)
    end))
  end)
end)

for _, pin in ipairs { false, true } do
  describe(pin and "on a C stack, a coroutine" or "without a C stack, a coroutine", function()
    before_each(function()
      core.always_pin(pin)
    end)

    after_each(function()
      core.always_pin(false)
    end)

    it("keeps the values of its yields and resumes while it waits in between", function()
      local co = coroutine.create(function(...)
        for _ = 1, 3 do
          sleep(0)
        end
        local got = table.pack(coroutine.yield(...))
        sleep(0.001)
        return table.unpack(got, 1, got.n)
      end)
      spawn(function()
        assert.same({ true, 1, nil, 3 }, { coroutine.resume(co, 1, nil, 3) })
        assert.same({ n = 2, true, nil }, table.pack(coroutine.resume(co, nil)))
        assert.same({ false, "cannot resume dead coroutine" }, { coroutine.resume(co) })
      end):get()
    end)

    it("takes and gives hundreds of values around a wait", function()
      local values = {}
      for i = 1, 500 do
        values[i] = i
      end
      spawn(inside, 3, function(...)
        sleep(0)
        assert.equal(500, select("#", ...))
        local function echo(...)
          sleep(0)
          local last = select("#", ...)
          sleep(0)
          return last, coroutine.yield(...)
        end
        local generate = coroutine.wrap(echo)
        assert.same(values, { generate(...) })
        assert.same({ 500, table.unpack(values) }, { generate(...) })
      end, table.unpack(values)):get()
    end)

    it("says of itself what it says without greenlets", function()
      spawn(inside, 2, function()
        local me, is_main = coroutine.running()
        for _ = 1, 3 do
          assert.same({ me, is_main }, { coroutine.running() })
          assert.equal("running", coroutine.status(me))
          assert.is_true(coroutine.isyieldable())
          sleep(0)
        end
      end):get()
    end)

    it("that waits looks normal to others, who can neither resume nor close it", function()
      local gate, inner, outer, wrapped = event.Event(), nil, nil, nil
      local g = spawn(function()
        outer = coroutine.create(function()
          inner = coroutine.create(function()
            wrapped = coroutine.wrap(function()
              gate:wait()
              return "waited"
            end)
            return wrapped()
          end)
          return select(2, coroutine.resume(inner))
        end)
        return select(2, coroutine.resume(outer))
      end)
      sleep(0)
      for _ = 1, 2 do
        for _, co in ipairs { outer, inner } do
          assert.equal("normal", coroutine.status(co))
          assert.is_true(coroutine.isyieldable(co))
          assert.same({ false, "cannot resume non-suspended coroutine" },
            { coroutine.resume(co, 1, 2, 3) })
          assert.equal("cannot close a normal coroutine", support.error_of(coroutine.close, co))
          assert.matches("nested_spec%.lua:%d+: in function <", debug.traceback(co))
          assert.is_truthy(debug.getinfo(co, 1, "l"))
        end
        local err = support.error_of(function()
          wrapped("intruder")
        end)
        assert.matches("nested_spec.lua:%d+: cannot resume non%-suspended coroutine$", err)
      end
      support.turns()
      assert.is_false(g:ready())
      gate:set()
      assert.equal("waited", g:get())
      assert.equal("dead", coroutine.status(outer))
      assert.is_true(coroutine.close(inner))
    end)

    it("keeps its greenlet's own thread from others as well", function()
      local gate, thread = event.Event(), nil
      local g = spawn(function()
        thread = coroutine.running()
        return coroutine.wrap(gate.wait)(gate)
      end)
      sleep(0)
      assert.equal("normal", coroutine.status(thread))
      assert.same({ false, "cannot resume non-suspended coroutine" }, { coroutine.resume(thread) })
      assert.has_error(function()
        coroutine.close(thread)
      end, "cannot close a normal coroutine")
      gate:set()
      assert.is_true(g:get())
    end)

    it("belongs to whichever greenlet resumes it", function()
      local seen = support.trace()
      local generate = coroutine.wrap(function()
        for i = 1, 4 do
          sleep(0)
          seen(i .. moonlet.getcurrent().name)
          coroutine.yield(i)
        end
      end)
      for _, name in ipairs { "a", "b", "c", "d" } do
        local g = spawn(generate)
        g.name = name
        g:join()
      end
      assert.equal("1a 2b 3c 4d", tostring(seen))
    end)

    it("may wait again and again for what others take first", function()
      local q, got = queue.Queue(), support.trace()
      local list = {}
      for i = 1, 5 do
        list[i] = spawn(inside, i - 1, function()
          for _ = 1, 4 do
            got(q:get())
          end
        end)
      end
      sleep(0)
      for i = 1, 20 do
        q:put(i)
        if i % 3 == 0 then
          sleep(0)
        end
      end
      moonlet.joinall(list, 5, true)
      assert.equal(20, #got)
      assert.is_true(q:empty())
    end)

    it("gets a kill where it waits, innermost first", function()
      local seen = support.trace()
      local function waits(depth)
        local _ <close> = support.closing(seen, depth)
        if depth == 3 then
          local ok, err = pcall(sleep, 10)
          seen(not ok and err:is(moonlet.GreenletExit) and "caught")
          sleep(0)
          sleep(10)
        end
        coroutine.wrap(waits)(depth + 1)
      end
      local g = spawn(waits, 1)
      sleep(0)
      g:kill(nil, 0)
      support.turns(5)
      assert.is_false(g:ready())
      assert.equal("caught", tostring(seen))
      g:kill()
      assert.equal("caught 3 2 1", tostring(seen))
      assert.is_true(g:successful())
    end)

    it("gets a Timeout where it waits", function()
      local function limited()
        local limit <close> = moonlet.Timeout.start_new(0.001)
        local _, err = pcall(coroutine.wrap(sleep), 10)
        assert.equal(limit, err)
        sleep(0)
        return moonlet.with_timeout(0.001, coroutine.wrap(sleep), 10)
      end
      assert.same({ nil, "timeout" }, { spawn(inside, 2, limited):get() })
    end)

    it("fails after a wait as it does without", function()
      local function fail(wait, value)
        wait(0)
        error(value)
      end
      local function nothing() end
      local object = setmetatable({}, { __tostring = nothing })
      for _, value in ipairs { "text", object, 42, false } do
        local results = {}
        for i, wait in ipairs { nothing, sleep } do
          results[i] = spawn(function()
            local co = coroutine.create(fail)
            local list = { coroutine.resume(co, wait, value) }
            list[3] = coroutine.status(co)
            list[4], list[5] = coroutine.close(co)
            list[6], list[7] = pcall(function()
              coroutine.wrap(fail)(wait, value)
            end)
            list[8], list[9] = pcall(inside, 3, fail, wait, value)
            list[10] = select(2, xpcall(inside, debug.traceback, 1, fail, wait, value))
            return list
          end):get()
        end
        assert.same(results[1], results[2])
      end
    end)

    it("has its variables closed as it ends, by an error too, and waits as it does so", function()
      support.uncaught()
      local seen = support.trace()
      local function closes(text)
        return setmetatable({}, { __close = function()
          sleep(0)
          seen(text)
        end })
      end
      local g = spawn(inside, 2, function()
        local _ <close> = closes "outer"
        local generate = coroutine.wrap(function()
          local _ <close> = closes "inner"
          sleep(0)
          coroutine.yield()
          sleep(0)
          error "failure"
        end)
        generate()
        generate()
      end)
      g:join()
      assert.matches("nested_spec.lua:%d+: .*nested_spec.lua:%d+: failure$", g.exception)
      assert.equal("inner outer", tostring(seen))
    end)

    it("left alone by a loop that is broken off can be closed", function()
      local seen = support.trace()
      spawn(function()
        local co = coroutine.create(function()
          local _ <close> = support.closing(seen, "closed")
          sleep(0)
          coroutine.yield(1)
          sleep(10)
        end)
        assert.same({ true, 1 }, { coroutine.resume(co) })
        assert.equal("suspended", coroutine.status(co))
        assert.is_true(coroutine.close(co))
      end):get()
      assert.equal("closed", tostring(seen))
    end)

    it("is as deep as coroutines may be", function()
      local function deepest(wait)
        local depth = 0
        local function dive()
          depth = depth + 1
          wait(0)
          coroutine.wrap(dive)()
        end
        local ok, err = pcall(dive)
        return ok, err:match("C stack overflow"), depth
      end
      local ok, message, depth = spawn(deepest, sleep):get()
      assert.same({ false, "C stack overflow" }, { ok, message })
      assert.is_true(depth > 50)
      assert.equal(7, spawn(inside, 100, function()
        sleep(0)
        return 7
      end):get())
    end)

    it("is shown where it waits", function()
      local gate = event.Event()
      local g = spawn(inside, 2, function()
        gate:wait() -- here
      end)
      sleep(0)
      local line = debug.getinfo(1, "l").currentline - 3
      local text = support.run_info()
      gate:set()
      g:join()
      assert.matches("nested_spec.lua:" .. line, text)
      assert.matches("waits in Event:wait", text)
    end)

    it("has the greenlet's locals, shield and name", function()
      local locals = Local()
      local g = spawn(function()
        locals.value = "own"
        return inside(2, function()
          sleep(0)
          return locals.value, moonlet.getcurrent().name
        end)
      end)
      g.name = "owner"
      assert.same({ "own", "owner" }, { g:get() })
    end)

    it("may be collected with its greenlet's last trace", function()
      local weak = setmetatable({}, { __mode = "k" })
      local g = spawn(inside, 2, function()
        weak[coroutine.running()] = true
        sleep(10)
      end)
      sleep(0)
      collectgarbage()
      assert.is_truthy(next(weak))
      g:kill()
      collectgarbage()
      assert.is_nil(next(weak))
    end)
  end)
end

describe("a program with greenlets that wait in coroutines", function()
  local PRELUDE = [[
    local moonlet = require "moonlet"
    local function waits(text)
      return moonlet.spawn(coroutine.wrap(function()
        local _ <close> = setmetatable({}, { __close = function() print(text) end })
        coroutine.wrap(moonlet.sleep)(10)
      end))
    end
  ]]

  local function output_of(code)
    local run = support.run_script(PRELUDE .. code)
    assert.equal(0, run.status, run.stderr)
    return run.stdout, run.stderr
  end

  it("closes their variables as the runtime ends", function()
    assert.equal("one\ntwo\n", (output_of [[
      waits("one")
      waits("two")
      moonlet.sleep(0)
      os.exit(0, true)
    ]]))
  end)

  it("may fork in one of them", function()
    assert.equal("child normal\nparent\n", (output_of [[
      local mos = require "moonlet.os"
      local other
      moonlet.spawn(function()
        other = coroutine.create(moonlet.sleep)
        coroutine.resume(other, 10)
      end)
      moonlet.spawn(function()
        coroutine.wrap(function()
          moonlet.sleep(0)
          local child = mos.fork()
          if child == 0 then
            moonlet.sleep(0)
            print("child " .. coroutine.status(other))
            os.exit(0)
          end
          mos.waitpid(child)
          print "parent"
          os.exit(0)
        end)()
      end):join()
    ]]))
  end)

  it("is told by the watchdog where they compute", function()
    local out, report = output_of [[
      moonlet.watchdog(0.02)
      local limit
      local ok, err = moonlet.spawn(pcall, coroutine.wrap(function()
        moonlet.sleep(0)
        limit = moonlet.Timeout.start_new(0.05)
        coroutine.wrap(function()
          moonlet.sleep(0)
          while true do end -- line 15
        end)()
      end)):get()
      print(ok, err == limit)
    ]]
    assert.equal("false\ttrue\n", out)
    assert.matches("traceback:\n%s[^\n]*:15: in ", report)
  end)
end)

describe("random programs of nested coroutines", function()
  it("take the same course whether waits hold C stacks or not", function()
    support.unbounded()
    finally(function()
      core.always_pin(false)
    end)
    for seed = 1, support.sanitized and 50 or 200 do
      local courses_of = {}
      for i, pin in ipairs { false, true } do
        core.always_pin(pin)
        courses_of[i] = courses.run(seed)
      end
      assert.equal(courses_of[1], courses_of[2], "seed " .. seed)
    end
  end)
end)
