-- OpenSSL's queue of errors, which is the thread's: each greenlet has its own.

local pitfalls = require "support.pitfalls"

local ready = pitfalls.find "secure.so" ~= nil

local function run(code)
  return pitfalls.run("secure", code)
end

describe("OpenSSL in a library", function()
  if not ready then
    return
  end

  it("finds the errors of its greenlet, and no others", function()
    run [[
      local greenlets = {}
      for i = 1, 10 do
        greenlets[i] = moonlet.spawn(secure.error_across, i % 3 * 100, 0.01 / i)
      end
      equal(true, secure.error_across(77, 0.02))
      for i = 1, 10 do
        equal(true, greenlets[i]:get())
      end
    ]]
  end)

  it("wants to read on when another greenlet has failed meanwhile", function()
    run [[
      local function shake_in_greenlet(...)
        return moonlet.spawn(secure.shake, ...):get()
      end
      for _, f in ipairs { secure.shake, shake_in_greenlet } do
        local failing = moonlet.spawn(function()
          moonlet.sleep(0.005)
          equal(false, secure.fail())
        end)
        equal("want read", f(0.03))
        assert(failing:ready())
        failing:get()
      end
    ]]
  end)

  it("knows its keys if it was loaded, and used, before", function()
    local program = require "support.program"
    program.run_quietly(([[
      local secure = assert(package.loadlib(%q, "luaopen_secure"))()
      equal(false, secure.fail())
      require("moonlet.monkey").patch_c()
      local other = moonlet.spawn(secure.error_across, 5, 0.01)
      equal(true, secure.error_across(6, 0.02))
      equal(true, other:get())
    ]]):format(pitfalls.find "secure.so"))
  end)

  it("frees what it kept for a greenlet when that has ended, by whatever", function()
    run [[
      local function round(count)
        for i = 1, count do
          local g = moonlet.spawn(function()
            secure.fail()
            if i % 3 == 0 then moonlet.sleep(10) end
            if i % 3 == 1 then error(moonlet.GreenletExit()) end
          end)
          moonlet.sleep(0)
          g:kill()
        end
        collectgarbage()
        collectgarbage()
        return secure.memory()
      end
      round(100)
      local before = round(100)
      local grown = round(1000) - before
      assert(grown < 100000, grown)
    ]]
  end)
end)
