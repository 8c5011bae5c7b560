-- The copies that pools of threads and processes make of values.

local ThreadPool = require("moonlet.threadpool").ThreadPool
local support = require "support"

-- Runs in the worker.
local function echo(...)
  return ...
end

local function reason(...)
  local pool <close> = ThreadPool(1)
  local err = support.error_of(pool.spawn, pool, echo, ...)
  return err
end

describe("values sent to a worker and back", function()
  local pool

  before_each(function()
    pool = ThreadPool(1)
  end)

  local function sent(...)
    return pool:apply(echo, table.pack(...))
  end

  local function same_number(a, b)
    return math.type(a) == math.type(b) and (a == b and 1 / a == 1 / b or a ~= a and b ~= b)
  end

  it("keep their number, nils at the end too", function()
    assert.same({ n = 0 }, table.pack(sent()))
    assert.same({ n = 4, nil, false, nil, nil }, table.pack(sent(nil, false, nil, nil)))
  end)

  it("keep integers and floats apart, to the last bit", function()
    local numbers = { 0, 1, -1, 127, 128, -64, -65, math.maxinteger, math.mininteger, 0.0, -0.0,
                      1.5, 1e308, 5e-324, math.huge, -math.huge, 0 / 0, 2 ^ 53 }
    for power = 0, 62 do
      table.insert(numbers, 1 << power)
      table.insert(numbers, -(1 << power) - 1)
    end
    for i, number in ipairs(sent(numbers)) do
      assert.truthy(math.type(number) == "integer" and number == numbers[i] or
                    same_number(number, numbers[i]), tostring(numbers[i]))
    end
  end)

  it("keep strings of any bytes and lengths", function()
    local bytes = {}
    for byte = 0, 255 do
      bytes[byte + 1] = string.char(byte)
    end
    for _, text in ipairs { "", "\0", table.concat(bytes), ("x"):rep(127), ("x"):rep(128),
                            ("long"):rep(500000) } do
      assert.equal(text, (sent(text)))
    end
  end)

  it("keep tables: arrays, holes, keys of all kinds", function()
    local value = { 1, 2, nil, 4, [0] = "zero", [-1] = "less", [2.5] = "half", [true] = "yes",
                    [false] = "no", name = { deep = { deeper = {} } }, [""] = {} , [1 << 40] = 1 }
    assert.same(value, sent(value))
    local key = { "a key" }
    local copy = sent({ [key] = "value" })
    assert.same(key, next(copy))
  end)

  it("keep what a table shares with others and with itself", function()
    local shared = { 1 }
    local value = { a = shared, b = shared, [shared] = shared, [3] = { shared } }
    value.self = value
    local copy, other = sent(value, shared)
    assert.equal(copy, copy.self)
    assert.equal(copy.a, copy.b)
    assert.equal(copy.a, copy[copy.a])
    assert.equal(copy.a, copy[3][1])
    assert.equal(copy.a, other)
    assert.not_equal(shared, copy.a)
  end)

  it("may be any: random ones come back the same", function()
    local seed = os.time()
    math.randomseed(seed)
    local random = math.random
    local make

    local function scalar()
      local kind = random(6)
      if kind == 1 then
        return random(0) -- any integer
      elseif kind == 2 then
        return random(-200, 200)
      elseif kind == 3 then
        return (random() - 0.5) * 2.0 ^ random(-60, 60)
      elseif kind == 4 then
        return random() < 0.5
      end
      local text = {}
      for i = 1, random(0, 20) do
        text[i] = string.char(random(0, 255))
      end
      return table.concat(text)
    end

    function make(depth)
      if depth == 0 or random() < 0.4 then
        return scalar()
      end
      local list = {}
      for i = 1, random(0, 6) do
        list[i] = make(depth - 1)
      end
      for _ = 1, random(0, 6) do
        list[scalar()] = make(depth - 1)
      end
      return list
    end

    for _ = 1, 300 do
      local value = make(4)
      assert.same(value, (sent(value)), "seed " .. seed)
    end
  end)

  it("are copies: a change there is not seen here", function()
    local value = { 1 }
    pool:apply(function(t)
      t[1], t.more = 2, true
    end, { value })
    assert.same({ 1 }, value)
  end)

  it("are tables as deep as 200, and no deeper", function()
    local function nested(depth)
      local value = {}
      for _ = 2, depth do
        value = { value }
      end
      return value
    end
    assert.same(nested(200), sent(nested(200)))
    assert.truthy(reason(nested(201)):find("argument 1: value at %[1%]%[1%].*%.%.%.: " ..
                                           "tables nested so deep cannot be sent"))
  end)

  it("go where the stack is small", function()
    local value = {}
    for i = 1, 5000 do
      value[i] = { i }
    end
    local copy
    table.sort({ 1, 2 }, function(a, b)
      copy = copy or sent(value)
      return a < b
    end)
    assert.same(value, copy)
  end)
end)

describe("values that cannot be sent", function()
  it("are told by argument and path", function()
    for expected, arguments in pairs {
      ["argument 1: functions cannot be sent"] = { print },
      ["argument 3: userdata cannot be sent"] = { 1, 2, io.stdout },
      ["argument 1: coroutines cannot be sent"] = { coroutine.create(print) },
      ["argument 2: value at .list[3].callback: functions cannot be sent"] =
        { 1, { list = { 1, 2, { callback = print } } } },
      ["argument 1: value at [\"two words\"][true][1.5]: functions cannot be sent"] =
        { { ["two words"] = { [true] = { [1.5] = print } } } },
      ["argument 1: value at .a[-3]: functions cannot be sent"] = { { a = { [-3] = print } } },
      ["argument 1: key of the table at .a: functions cannot be sent"] =
        { { a = { [print] = 1 } } },
      ["argument 1: key of the table: userdata cannot be sent"] = { { [io.stdout] = 1 } },
      ["argument 1: tables with a metatable cannot be sent"] = { setmetatable({}, {}) },
      ["argument 1: value at .x: tables with a metatable cannot be sent"] =
        { { x = setmetatable({}, {}) } },
    } do
      local err = reason(table.unpack(arguments))
      assert.truthy(err:find(expected, 1, true), err)
    end
  end)

  it("are told in a key that is a table", function()
    local err = reason({ [{ print }] = 1 })
    assert.truthy(err:find("argument 1: value at %[table: %w+%]%[1%]: functions cannot be sent"),
                  err)
  end)

  it("have names that are cut when they are long", function()
    local err = reason({ [("name"):rep(1000)] = print })
    assert.truthy(#err < 300 and err:find("%.%.%.\"%]: functions cannot be sent"), err)
  end)

  it("say where the call is", function()
    local pool = ThreadPool(1)
    for _, call in ipairs {
      function()
        local greenlet = pool:spawn(echo, print)
        return greenlet
      end,
      function()
        local result = pool:apply(echo, { print })
        return result
      end,
      function()
        local greenlet = pool:spawn(print)
        return greenlet
      end,
      function()
        local greenlet = pool:spawn()
        return greenlet
      end,
    } do
      local err = support.error_of(call)
      assert.truthy(err:find("^[^ ]*spec/values_spec.lua:%d+: "), err)
    end
  end)
end)
