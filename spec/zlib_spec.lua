local zlib = require "moonlet.zlib"
local support = require "support"

local TEXT = ("All work and no play makes Jack a dull boy.\n"):rep(2000)

-- Random bytes, the same for the same seed.
local function noise(seed, size)
  local bytes = {}
  for i = 1, size do
    seed = (seed * 1103515245 + 12345) % 2147483648
    bytes[i] = string.char(seed >> 16 & 255)
  end
  return table.concat(bytes)
end

describe("moonlet.zlib", function()
  for _, format in ipairs { "gzip", "zlib", "raw" } do
    it("brings back what it packed, as " .. format, function()
      for _, text in ipairs { "", "x", TEXT, noise(7, 70000) } do
        local packed = zlib.deflate(format):write(text, "finish")
        local back, ended, rest = zlib.inflate(format):write(packed)
        assert.equal(text, back)
        assert.is_true(ended)
        assert.equal("", rest)
      end
      assert.is_true(#zlib.deflate(format):write(TEXT, "finish") < #TEXT / 20)
    end)
  end

  it("knows gzip and zlib apart by itself", function()
    assert.equal("hi", (zlib.inflate():write(zlib.deflate("gzip"):write("hi", "finish"))))
    assert.equal("hi", (zlib.inflate():write(zlib.deflate("zlib"):write("hi", "finish"))))
  end)

  it("works on pieces of any size", function()
    local packed = zlib.deflate():write(TEXT, "finish")
    local inflater, parts, ended = zlib.inflate(), {}, false
    for i = 1, #packed do
      assert.is_false(ended)
      parts[i], ended = inflater:write(packed:sub(i, i))
    end
    assert.is_true(ended)
    assert.equal(TEXT, table.concat(parts))
  end)

  it("lets out all that was written with sync", function()
    local deflater, inflater = zlib.deflate("raw"), zlib.inflate("raw")
    for _, word in ipairs { "one", "two", "three" } do
      local back, ended = inflater:write(deflater:write(word, "sync"))
      assert.equal(word, back)
      assert.is_false(ended)
    end
  end)

  it("hands back what lies behind the end", function()
    local packed = zlib.deflate():write("hi", "finish")
    local inflater = zlib.inflate()
    assert.same({ "hi", true, "more" }, { inflater:write(packed .. "more") })
    assert.same({ "", true, "again" }, { inflater:write("again") })
  end)

  it("reads what gzip writes", function()
    local file = assert(io.popen("printf hello | gzip -c"))
    local packed = file:read("a")
    file:close()
    assert.equal("hello", (zlib.inflate():write(packed)))
  end)

  it("returns nil and a reason for corrupt data, and for more than the limit", function()
    assert.same({ nil, "incorrect header check" }, { zlib.inflate():write("not packed") })
    local packed = zlib.deflate():write(("x"):rep(10000000), "finish")
    assert.is_true(#packed < 20000)
    assert.same({ nil, "too long" }, { zlib.inflate():write(packed, 1000000) })
  end)

  it("refuses bad arguments, naming them", function()
    assert.matches("bad argument #1 to '.-deflate'", support.error_of(zlib.deflate, "zip"))
    assert.matches("bad argument #2 to '.-deflate'", support.error_of(zlib.deflate, "gzip", 10))
    assert.matches("bad argument #1 to '.-inflate'", support.error_of(zlib.inflate, "zip"))
    local deflater = zlib.deflate()
    assert.matches("bad argument #1 to 'write'", support.error_of(function()
      deflater:write()
    end))
    assert.matches("bad argument #2 to 'write'", support.error_of(function()
      deflater:write("x", "never")
    end))
  end)

  it("does not go on after the end, or when closed", function()
    local deflater <close> = zlib.deflate()
    deflater:write("x", "finish")
    assert.matches("has come to its end", support.error_of(deflater.write, deflater, "y"))
    local inflater = zlib.inflate()
    inflater:close()
    inflater:close()
    assert.matches("closed", support.error_of(inflater.write, inflater, "y"))
    assert.matches("^<Inflater: 0 in, 0 out, closed>$", tostring(inflater))
  end)
end)
