-- Facts about groups and nurseries at the edges: errors that are nil, callable objects.

local moonlet = require "moonlet"
local pool = require "moonlet.pool"
local support = require "support"

local function callable(f)
  return setmetatable({}, { __call = function(_, ...)
    return f(...)
  end })
end

describe("An error of nil or false", function()
  for _, err in ipairs { "nil", "false" } do
    it("(" .. err .. ") cancels a nursery like any other", function()
      support.uncaught()
      local cancelled = true
      local ok = pcall(pool.nursery, function(nursery)
        nursery:spawn(error, err == "false" and false or nil)
        moonlet.sleep(10)
        cancelled = false
      end)
      assert.is_false(ok)
      assert.is_true(cancelled)
    end)

    it("(" .. err .. ") is raised by join with raise_error", function()
      support.uncaught()
      local group = pool.Group()
      group:spawn(error, err == "false" and false or nil)
      assert.is_false(pcall(group.join, group, nil, true))
    end)
  end
end)

describe("A callable object", function()
  it("is the input iterator of map, imap and imap_unordered", function()
    local function three()
      local i = 0
      return callable(function()
        i = i + 1
        return i <= 3 and i or nil
      end)
    end
    local function same(x)
      return x
    end
    local group = pool.Group()
    assert.same({ 1, 2, 3 }, group:map(same, three()))
    local sum = 0
    for x in group:imap(same, three()) do
      sum = sum + x
    end
    for x in group:imap_unordered(same, three()) do
      sum = sum + x
    end
    assert.equal(12, sum)
  end)

  it("is a nursery's body, an error handler and run_info's writer", function()
    assert.equal(1, pool.nursery(callable(function()
      return 1
    end)))
    local text
    moonlet.run_info(callable(function(part)
      text = part
    end))
    assert.is_string(text)
    local was = moonlet.set_error_handler(callable(print))
    moonlet.set_error_handler(was)
  end)
end)

describe("A nursery", function()
  it("refuses a timeout that is none, by name and number", function()
    local err = support.error_of(pool.nursery, print, "soon")
    assert.matches("bad argument #2 to 'nursery'", err)
  end)
end)

describe("A wrong argument", function()
  it("of map, imap, Group and Pool is an error of the caller's line", function()
    for _, misuse in ipairs {
      function() pool.Group():map({}, print) end,
      function() pool.Group():imap(print, {}, 0)() end,
      function() pool.Group():imap_unordered(print, 5) end,
      function() pool.Group():map_async(print) end,
      function() pool.Group({ 1 }) end,
      function() pool.Group(1) end,
      function() pool.Pool("many") end,
      function() pool.Pool(-1) end,
    } do
      assert.matches("^[^:]*pool_facts_spec.lua:%d+: bad argument", support.error_of(misuse))
    end
  end)
end)
