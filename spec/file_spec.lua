local moonlet = require "moonlet"
local os_ = require "moonlet.os"
local select = require "moonlet.select"
local support = require "support"

-- A temporary path, removed at the end of the block.
local function temporary()
  return setmetatable({ path = os.tmpname() }, {
    __close = function(self)
      os.remove(self.path)
    end,
  })
end

-- Two files over a pipe.
local function pipe()
  local r, w = assert(os_.pipe())
  return os_.File(r, false), os_.File(w, false)
end

local function contents(path)
  local file <close> = assert(io.open(path, "rb"))
  return file:read("a")
end

local function spill(path, text)
  local file <close> = assert(io.open(path, "wb"))
  file:write(text)
end

local function second(_, value)
  return value
end

local function third(_, _, value)
  return value
end

describe("a file", function()
  -- What both kinds of files must read from a text; `open` makes one that holds it.
  local function reads(open)
    it("reads lines, with and without their ends", function()
      local f <close> = open("one\ntwo\n\nlast")
      assert.equal("one", f:read())
      assert.equal("two\n", f:read("L"))
      assert.equal("", f:read("l"))
      assert.equal("last", f:read("*l"))
      assert.is_nil(f:read())
      assert.is_nil(f:read("L"))
    end)

    it("reads all, and an empty string at the end", function()
      local f <close> = open("one\ntwo")
      assert.equal("o", f:read(1))
      assert.equal("ne\ntwo", f:read("a"))
      assert.equal("", f:read("*a"))
    end)

    it("reads so many bytes, and fewer only at the end", function()
      local f <close> = open("12345678")
      assert.equal("123", f:read(3))
      assert.equal("", f:read(0))
      assert.equal("45678", f:read(100))
      assert.is_nil(f:read(0))
      assert.is_nil(f:read(1))
    end)

    it("reads numbers as Lua does", function()
      local text = "12 -3.5e2\n0x1F .5 0x.8p1 007 nan"
      local f <close> = open(text)
      assert.same({ 12, -350.0, 31, 0.5, 1.0, 7 }, { f:read("n", "n", "n", "n", "n", "n") })
      assert.is_nil(f:read("n"))
      assert.equal("nan", f:read("a"))
      local twelve <close> = open("12")
      assert.equal(12, twelve:read("*n"))
      assert.is_nil(twelve:read("n"))
      local long <close> = open(("1"):rep(300))
      assert.is_nil(long:read("n"))
      assert.equal(("1"):rep(100), long:read("a"))
    end)

    it("takes several formats, and stops at the first that fails", function()
      local f <close> = open("7 rest\nline\n")
      assert.same({ 7, " rest", "li", "ne\n" }, { f:read("n", "l", 2, "L") })
      assert.same({ n = 1 }, table.pack(f:read("l", "l")))
      local g <close> = open("x\n")
      assert.same({ "x", n = 2 }, table.pack(g:read("l", "n", "a")))
    end)

    it("iterates over lines, or over what other formats give", function()
      local f <close> = open("a\nb\nc")
      local list = {}
      for line in f:lines() do
        list[#list + 1] = line
      end
      assert.same({ "a", "b", "c" }, list)
      local g <close> = open("1 x\n2 y\n")
      for number, rest in g:lines("n", "L") do
        list[#list + 1] = number .. rest
      end
      assert.same({ "a", "b", "c", "1 x\n", "2 y\n" }, list)
    end)

    it("reads what is larger than any buffer", function()
      local text = ("0123456789abcde\n"):rep(20000)
      local f <close> = open(text)
      assert.equal(text, f:read("a"))
      local g <close> = open(text)
      assert.equal(text:sub(1, 200001), g:read(200001))
      local h <close> = open(("x"):rep(300000) .. "\nend")
      assert.equal(300000, #h:read())
      assert.equal("end", h:read())
    end)

    it("refuses formats that there are not", function()
      local f <close> = open("x")
      assert.matches("bad argument #1 to 'read' %(invalid format%)",
                     support.error_of(function() f:read("q") end))
      assert.matches("bad argument #2 to 'read'", support.error_of(function() f:read("l", -1) end))
      assert.matches("bad argument #1 to 'lines'", support.error_of(function() f:lines("*") end))
      assert.matches("bad argument #1 to 'read'", support.error_of(function() f:read({}) end))
      assert.equal("x", f:read("a"))
    end)
  end

  describe("over a regular file", function()
    local path

    before_each(function()
      path = os.tmpname()
    end)

    after_each(function()
      os.remove(path)
    end)

    reads(function(text)
      spill(path, text)
      return assert(os_.open(path))
    end)

    it("lets others run while it reads and writes", function()
      local turns = 0
      local other = moonlet.spawn(function()
        while true do
          moonlet.sleep(0)
          turns = turns + 1
        end
      end)
      local f <close> = assert(os_.open(path, "w+"))
      f:write("hello")
      assert.equal(f, f:flush())
      assert.is_true(turns > 0)
      turns = 0
      f:seek("set")
      assert.equal("hello", f:read("a"))
      assert.is_true(turns > 0)
      other:kill()
    end)

    it("writes strings and numbers, and returns itself", function()
      local f = assert(os_.open(path, "w"))
      assert.equal(f, f:write("a", 1, 2.5, "\n", ""))
      assert.equal(f, f:write())
      assert.is_true(f:close())
      assert.equal("a12.5\n", contents(path))
    end)

    it("keeps output in a buffer until it is full, flushed or closed", function()
      local f <close> = assert(os_.open(path, "w"))
      f:write("kept")
      assert.equal("", contents(path))
      f:flush()
      assert.equal("kept", contents(path))
      f:setvbuf("no")
      f:write(" written")
      assert.equal("kept written", contents(path))
      f:setvbuf("line")
      f:write(" begun")
      assert.equal("kept written", contents(path))
      f:write(" done\n")
      assert.equal("kept written begun done\n", contents(path))
      f:setvbuf("full", 4)
      f:write("12345678")
      f:close()
      assert.equal("kept written begun done\n12345678", contents(path))
    end)

    it("writes much in the order of the calls, from several greenlets too", function()
      local f = assert(os_.open(path, "w"))
      f:setvbuf("full", 1000)
      local list = {}
      for i = 1, 10 do
        list[i] = moonlet.spawn(function()
          for n = 1, 200 do
            assert(f:write(("%d:%d;"):format(i, n), ("x"):rep(20), "\n"))
          end
        end)
      end
      moonlet.joinall(list, nil, true)
      f:close()
      local last, count = {}, 0
      for line in io.lines(path) do
        local i, n = line:match("^(%d+):(%d+);x+$")
        assert.equal((last[i] or 0) + 1, tonumber(n))
        last[i], count = tonumber(n), count + 1
      end
      assert.equal(2000, count)
    end)

    it("seeks as Lua's files do, with what is buffered counted", function()
      spill(path, "0123456789")
      local f <close> = assert(os_.open(path, "r+"))
      assert.equal("012", f:read(3))
      assert.equal(3, f:seek())
      assert.equal(5, f:seek("cur", 2))
      assert.equal("56", f:read(2))
      assert.equal(10, f:seek("end"))
      assert.is_nil(f:read())
      f:write("ab")
      assert.equal(12, f:seek("cur"))
      assert.equal(1, f:seek("set", 1))
      assert.equal("1", f:read(1))
      f:write("X")
      assert.equal("3", f:read(1))
      f:flush()
      assert.equal("01X3456789ab", contents(path))
      local _, message, errno = f:seek("set", -1)
      assert.is_string(message)
      assert.equal(22, errno)
      assert.matches("bad argument #1 to 'seek'", support.error_of(function() f:seek("middle") end))
    end)

    it("appends in mode a, truncates in mode w", function()
      spill(path, "old")
      local a <close> = assert(os_.open(path, "ab"))
      a:write("new")
      a:close()
      assert.equal("oldnew", contents(path))
      local w <close> = assert(os_.open(path, "wb"))
      w:close()
      assert.equal("", contents(path))
    end)

    it("says why it cannot be opened, read or written", function()
      local f, message, errno = os_.open("/nonexistent/file")
      assert.is_nil(f)
      assert.equal("/nonexistent/file: No such file or directory", message)
      assert.equal(2, errno)
      local folder <close> = assert(os_.open("/tmp"))
      local _, why, number = folder:read()
      assert.equal("Is a directory", why)
      assert.equal(21, number)
      assert.is_false((pcall(function()
        for _ in folder:lines() do
          error("a line")
        end
      end)))
      local w <close> = assert(os_.open(path, "w"))
      assert.equal(9, (third(w:read())))
      local r <close> = assert(os_.open(path))
      assert.equal(9, (third(r:write("x"))))
      local here = "file_spec%.lua:%d+: bad argument #"
      assert.matches(here .. "2 to 'open' %(invalid mode%)",
                     support.error_of(function() os_.open(path, "rw") end))
      assert.matches(here .. "1 to 'open'", support.error_of(function() os_.open("a\0b") end))
      assert.matches(here .. "1 to 'open'", support.error_of(function() os_.open() end))
    end)

    it("tells of what could not be written, at the latest when it is closed", function()
      local f = assert(os_.open("/dev/full", "w"))
      f:setvbuf("full")
      f:write("x")
      local ok, message, errno = f:close()
      assert.is_nil(ok)
      assert.equal("No space left on device", message)
      assert.equal(28, errno)
      assert.equal("file (closed)", tostring(f))
      local g <close> = assert(os_.open("/dev/full", "w"))
      assert.equal(28, (third(g:write("x"))))
    end)

    it("writes all of what a killed greenlet was writing", function()
      local f = assert(os_.open(path, "w"))
      f:setvbuf("no")
      local text = ("y"):rep(1 << 20)
      local g = moonlet.spawn(f.write, f, text)
      support.turns(1)
      g:kill()
      collectgarbage()
      f:write("z")
      f:close()
      assert.equal(text .. "z", contents(path))
    end)

    it("reads on where a killed or timed out reader stopped", function()
      local text = ("line\n"):rep(50000)
      spill(path, text)
      local f <close> = assert(os_.open(path))
      local parts = {}
      for _ = 1, 20 do
        local g = moonlet.spawn(f.read, f, "L", "a")
        support.turns(1)
        g:kill()
        if type(g.value) == "string" then -- it was quicker
          table.move({ g:get() }, 1, 2, #parts + 1, parts)
        end
        parts[#parts + 1] = f:read("L")
      end
      f:settimeout(1e-9)
      local got = f:read("a")
      f:settimeout()
      parts[#parts + 1] = got or f:read("a")
      assert.equal(text, table.concat(parts))
    end)

    it("lets one greenlet read at a time, and says so", function()
      spill(path, "text")
      local f <close> = assert(os_.open(path))
      local g = moonlet.spawn(f.read, f, "a")
      support.turns(1)
      assert.matches("another greenlet is reading this file", support.error_of(f.read, f))
      assert.matches("another greenlet is reading", support.error_of(function() f:seek("set") end))
      assert.equal("text", g:get())
    end)

    it("may be closed while a greenlet reads, which gets nil, closed", function()
      spill(path, "text")
      local f = assert(os_.open(path))
      local g = moonlet.spawn(f.read, f, "a")
      support.turns(1)
      f:close()
      assert.same({ n = 2, nil, "closed" }, table.pack(g:get()))
    end)

    it("writes what is in its buffer when it is collected", function()
      do
        local f = assert(os_.open(path, "w"))
        f:write("unclosed")
      end
      collectgarbage()
      collectgarbage()
      assert.equal("unclosed", contents(path))
      do
        local f = assert(os_.open(path, "w"))
        f:setvbuf("full", 8)
        f:write("under way ")
        f:write("and buffered")
      end
      collectgarbage()
      collectgarbage()
      support.eventually(function() return contents(path) == "under way and buffered" end)
    end)

    it("writes what is in its buffer when the program ends, however it does", function()
      for _, last in ipairs { "", "os.exit(0)", "os.exit(0, true)",
                              "require('moonlet').spawn(os.exit, 0)" } do
        spill(path, "")
        local code = ([[
          local os_ = require "moonlet.os"
          file = assert(os_.open(%q, "w"))
          file:setvbuf("full", 10)
          file:write("written behind, ")
          file:write("buffered")
          require("moonlet").spawn(print)
          %s
        ]]):format(path, last)
        local result = support.run_script(code)
        assert.equal(0, result.status, result.stderr)
        assert.equal("written behind, buffered", contents(path))
      end
    end)
  end)

  describe("over a pipe", function()
    reads(function(text)
      local r, w = pipe()
      moonlet.spawn(function()
        w:write(text)
        w:close()
      end)
      return r
    end)

    it("blocks its reader only, until something comes", function()
      local r, w = pipe()
      local reader = moonlet.spawn(r.read, r)
      support.turns()
      assert.is_false(reader:ready())
      w:write("li")
      support.turns(20)
      assert.is_false(reader:ready())
      w:write("ne\nmore")
      assert.equal("line", reader:get())
      w:close()
      assert.equal("more", r:read())
      assert.is_nil(r:read())
      r:close()
    end)

    it("blocks its writer only, until there is room", function()
      local r, w = pipe()
      local text = ("z"):rep(1 << 18)
      local writer = moonlet.spawn(w.write, w, text)
      support.turns()
      assert.is_false(writer:ready())
      assert.equal(text, r:read(#text))
      assert.equal(w, writer:get())
      r:close()
      w:close()
    end)

    it("writes at once, unless it is told to keep a buffer", function()
      local r, w = pipe()
      w:write("now")
      assert.equal("now", os_.read(r, 10))
      w:setvbuf("full")
      w:write("later")
      assert.same({ nil, "timeout" }, { os_.read(r, 10, 0) })
      w:flush()
      assert.equal("later", os_.read(r, 10))
      w:setvbuf("line")
      w:write("part", " of a line")
      assert.same({ nil, "timeout" }, { os_.read(r, 10, 0) })
      w:write("\n")
      assert.equal("part of a line\n", os_.read(r, 100))
      w:write("end")
      w:close()
      assert.equal("end", r:read("a"))
      r:close()
    end)

    it("returns nil and a message where nobody reads any more", function()
      local r, w = pipe()
      r:close()
      local file, message, errno = w:write("x")
      assert.is_nil(file)
      assert.equal("Broken pipe", message)
      assert.equal(32, errno)
      w:close()
    end)

    it("times out, and keeps what it has read for the next", function()
      local r, w = pipe()
      r:settimeout(0.001)
      w:write("half ")
      assert.same({ n = 2, nil, "timeout" }, table.pack(r:read()))
      assert.same({ n = 2, nil, "timeout" }, table.pack(r:read(5, 1)))
      r:settimeout(0)
      assert.same({ n = 2, nil, "timeout" }, table.pack(r:read("a")))
      r:settimeout()
      w:write("line\n")
      assert.equal("half line", r:read())
      w:settimeout(0.001)
      local _, why, count = w:write(("x"):rep(1 << 20))
      assert.equal("timeout", why)
      assert.equal(count, #assert(r:read(count)))
      w:close()
      assert.equal("", r:read("a"))
      r:close()
    end)

    it("keeps what a killed reader has read", function()
      local r, w = pipe()
      local g = moonlet.spawn(r.read, r, "n", "l", "a")
      w:write("12 lost?\n")
      support.turns()
      g:kill()
      w:write("no")
      w:close()
      assert.equal("12 lost?\nno", r:read("a"))
      r:close()
    end)

    it("raises a Timeout that strikes while it reads, and keeps what there was", function()
      local r, w = pipe()
      w:write("abc")
      local limit <close> = moonlet.Timeout.start_new(0.001)
      assert.equal(limit, support.error_of(r.read, r))
      w:close()
      assert.equal("abc", r:read())
      r:close()
    end)

    it("lets one greenlet read and one write at a time, and says so", function()
      local r, w = pipe()
      local reader = moonlet.spawn(r.read, r, "a")
      local writer = moonlet.spawn(w.write, w, ("x"):rep(1 << 20))
      support.turns(1)
      assert.matches("another greenlet is reading this file", support.error_of(r.read, r))
      assert.matches("another greenlet is writing", support.error_of(w.write, w, "y"))
      assert.matches("another greenlet is writing to this file", support.error_of(w.flush, w))
      writer:join()
      w:close()
      assert.equal(1 << 20, #reader:get())
      r:close()
    end)

    it("wakes reader and writer with nil, closed", function()
      local r, w = pipe()
      local reader = moonlet.spawn(r.read, r)
      support.turns(1)
      r:close()
      assert.same({ n = 2, nil, "closed" }, table.pack(reader:get()))
      local r2, w2 = pipe()
      local writer = moonlet.spawn(w2.write, w2, ("x"):rep(1 << 20))
      support.turns(1)
      w2:close()
      assert.same({ n = 2, nil, "closed" }, table.pack(writer:get()))
      r2:close()
      w:close()
    end)

    it("notices that its descriptor is closed by its number", function()
      local r, w = pipe()
      local reader = moonlet.spawn(r.read, r)
      support.turns(1)
      os_.close(r:getfd())
      assert.same({ n = 2, nil, "closed" }, table.pack(reader:get()))
      assert.equal("file (closed)", tostring(r))
      w:close()
    end)

    it("raises in lines what read returns", function()
      local r, w = pipe()
      r:settimeout(0.001)
      local next_line = r:lines()
      assert.matches("timeout", support.error_of(next_line))
      w:write("x\n")
      assert.equal("x", next_line())
      r:close()
      assert.matches("file is already closed", support.error_of(next_line))
      w:close()
    end)

    it("has no position", function()
      local r, w = pipe()
      assert.equal(29, (third(r:seek())))
      r:close()
      w:close()
    end)

    it("works in every place where Lua code can run", function()
      for _, place in ipairs(require "support.places") do
        local r, w = pipe()
        local writer = moonlet.spawn(function()
          support.turns(1)
          w:write("line\n")
        end)
        place.run(function() assert(r:read() == "line", place.name) end)
        writer:join()
        r:close()
        w:close()
      end
    end)

    it("tells select of input that is in its buffer", function()
      local r, w = pipe()
      w:write("a\nb\n")
      assert.is_false(r:dirty())
      assert.equal("a", r:read())
      assert.is_true(r:dirty())
      assert.same({ r }, (select.select({ r }, nil, nil, 0)))
      r:read()
      assert.same({}, (select.select({ r }, nil, nil, 0)))
      r:close()
      w:close()
    end)
  end)

  describe("whoever else has the same open file", function()
    it("keeps its flags, which others see", function()
      local r, w = assert(os_.pipe())
      local result = support.run_script([[
        local moonlet, os_ = require "moonlet", require "moonlet.os"
        local out = os_.File(1)
        local seen = 0
        moonlet.spawn(function() while true do moonlet.sleep(0) seen = seen + 1 end end)
        out:write(("x"):rep(200000))
        local flags = io.open("/proc/self/fdinfo/1"):read("a"):match("flags:%s*(%d+)")
        io.stderr:write(tonumber(flags, 8) & 2048, "\n")
      ]])
      assert.equal(200000, #result.stdout)
      assert.equal("0\n", result.stderr)
      os_.close(r)
      os_.close(w)
    end)

    it("as standard input: reads what comes, and lets others run", function()
      local path <close> = temporary()
      local script <close> = temporary()
      spill(script.path, [[
        local moonlet, os_ = require "moonlet", require "moonlet.os"
        local turns = 0
        moonlet.spawn(function() while true do moonlet.sleep(0.001) turns = turns + 1 end end)
        print(os_.stdin:read("n", "l"))
        print(os_.stdin:read("l"))
        print(turns > 5)
        print(os_.stdin:close())
        for line in os_.stdin:lines() do print("<" .. line .. ">") end
        local f = io.open("/proc/self/fdinfo/0"):read("a"):match("flags:%s*(%d+)")
        print(tonumber(f, 8) & 2048)
      ]])
      local command = "(echo 42 first; sleep 0.1; printf 'second\\nthird\\nlast') | %s %s >%s"
      assert(os.execute(command:format(support.interpreter, script.path, path.path)))
      assert.equal("42\t first\nsecond\ntrue\nnil\tcannot close standard file\n" ..
                   "<third>\n<last>\n0\n", contents(path.path))
    end)
  end)

  describe("over a FIFO", function()
    local path

    before_each(function()
      path = os.tmpname()
      os.remove(path)
      assert(os.execute("mkfifo " .. path))
    end)

    after_each(function()
      os.remove(path)
    end)

    it("waits for a writer at the first read, for a reader at open", function()
      local r <close> = assert(os_.open(path, "r"))
      local reader = moonlet.spawn(r.read, r, "a")
      support.turns()
      assert.is_false(reader:ready())
      local w = assert(os_.open(path, "w"))
      w:write("through")
      w:close()
      assert.equal("through", reader:get())
      r:close()
      local opener = moonlet.spawn(os_.open, path, "w")
      moonlet.sleep(0.05)
      assert.is_false(opener:ready())
      local again <close> = assert(os_.open(path, "r"))
      local late <close> = assert(opener:get())
      late:write("x\n")
      assert.equal("x", again:read())
    end)

    it("may be killed while it opens", function()
      local opener = moonlet.spawn(os_.open, path, "w")
      support.turns(1)
      opener:kill()
      local other = moonlet.spawn(os_.open, path, "w")
      moonlet.sleep(0.03)
      other:kill()
      assert.is_true(other.value:is(moonlet.GreenletExit))
    end)
  end)

  it("says what it is, and may be closed twice but not used again", function()
    local f = assert(os_.open("/dev/null", "r+"))
    assert.matches("^file %(0x%x+%)$", tostring(f))
    assert.is_true(f:getfd() > 2)
    assert.is_true(f:is(os_.File))
    assert.is_true(f:close())
    assert.is_true(f:close())
    assert.equal("file (closed)", tostring(f))
    assert.equal(-1, f:getfd())
    for _, name in ipairs { "read", "lines", "write", "flush", "seek", "setvbuf",
                            "settimeout" } do
      assert.matches("attempt to use a closed file", support.error_of(f[name], f, "no"))
    end
  end)

  it("is closed at the end of its block, and by the collector", function()
    local fd
    do
      local f <close> = assert(os_.open("/dev/null"))
      fd = f:getfd()
    end
    assert.same({ nil, "Bad file descriptor", 9 }, { os_.close(fd) })
    do
      local f = assert(os_.open("/dev/null"))
      fd = f:getfd()
    end
    collectgarbage()
    collectgarbage()
    assert.same({ nil, "Bad file descriptor", 9 }, { os_.close(fd) })
  end)

  it("is made of an open descriptor only", function()
    assert.matches("bad argument #1 to 'File'", support.error_of(os_.File))
    assert.matches("bad argument #1 to 'File'", support.error_of(os_.File, "0"))
    assert.matches("not an open descriptor", support.error_of(os_.File, 999999))
    assert.matches("not an open descriptor", support.error_of(os_.File, -1))
  end)

  it("checks the arguments of setvbuf and settimeout", function()
    local f <close> = assert(os_.open("/dev/null"))
    for message, call in pairs {
      ["bad argument #1 to 'setvbuf'"] = function() f:setvbuf("some") end,
      ["bad argument #2 to 'setvbuf'"] = function() f:setvbuf("full", -1) end,
      ["bad argument #1 to 'settimeout'"] = function() f:settimeout("x") end,
      ["bad argument #1 to 'write'"] = function() f:write({}) end,
    } do
      assert.matches(message, support.error_of(call))
    end
    assert.is_true(f:setvbuf("full", 100))
  end)

  it("does not wait in a finalizer", function()
    local r, w = pipe()
    local seen
    setmetatable({}, { __gc = function()
      seen = second(pcall(r.read, r))
    end })
    collectgarbage()
    assert.matches("finalizer", tostring(seen))
    r:close()
    w:close()
  end)
end)
