-- patch_os and patch_io, each in a program of its own.

local program = require "support.program"

local run, run_quietly = program.run, program.run_quietly

describe("patch_os", function()
  it("lets others run during os.execute, which says what it always says", function()
    run_quietly [[
      local commands = { "true", "sleep 0.02; exit 3", "kill -9 $$", "no-such-command 2>/dev/null" }
      local execute, expected = os.execute, {}
      for i, command in ipairs(commands) do
        expected[i] = table.pack(execute(command))
      end
      execute = nil
      require("moonlet.monkey").patch_os()
      for i, command in ipairs(commands) do
        local got = table.pack(os.execute(command))
        for n = 1, 3 do
          equal(expected[i][n], got[n])
        end
      end
      equal(true, os.execute())
      equal(true, cooperative(os.execute, "sleep 0.05"))
    ]]
  end)

  it("runs commands of os.execute side by side", function()
    run_quietly [[
      require("moonlet.monkey").patch_os()
      local start, greenlets = moonlet.now(), {}
      for i = 1, 10 do
        greenlets[i] = moonlet.spawn(os.execute, "sleep 0.2; exit " .. i)
      end
      moonlet.joinall(greenlets, nil, true)
      for i = 1, 10 do
        equal(i, select(3, greenlets[i]:get()))
      end
      assert(moonlet.now() - start < 10 * 0.2, "one after the other")
    ]]
  end)

  it("lets others run while a file of io.popen is read and closed", function()
    run_quietly [[
      require("moonlet.monkey").patch_os()
      local file = io.popen("sleep 0.02; echo one; echo two; sleep 0.02; exit 3")
      equal("file", io.type(file))
      equal("one", cooperative(file.read, file))
      equal("two\n", file:read("a"))
      local ok, how, code = file:close()
      equal("nil exit 3", table.concat({ tostring(ok), how, code }, " "))
      equal("closed file", io.type(file))
      local lines = {}
      for line in io.popen("echo a; echo b"):lines() do
        lines[#lines + 1] = line
      end
      equal("a b", table.concat(lines, " "))
      equal(true, io.close(io.popen("true")))
    ]]
  end)

  it("lets others run while a file of io.popen is written", function()
    local stdout = run_quietly [[
      require("moonlet.monkey").patch_os()
      local file = io.popen("sleep 0.02; wc -c", "w")
      cooperative(file.write, file, ("x"):rep(200000))
      equal(true, file:close())
    ]]
    assert.equal("200000", stdout:match("%d+"))
  end)

  it("keeps io.type and io.close for all that they take", function()
    run_quietly [[
      require("moonlet.monkey").patch_os()
      equal("file", io.type(io.stdout))
      equal(nil, io.type(1))
      equal(nil, io.type(moonlet.Timeout(1)))
      equal(nil, io.type(package.loadlib and require("lpeg").P(1)))
      assert(select(2, pcall(io.type)):find("bad argument #1 to 'type'", 1, true))
      local file = io.tmpfile()
      equal(true, io.close(file))
      equal("closed file", io.type(file))
    ]]
  end)

  it("lets others run during sleeps of other modules", function()
    run_quietly [[
      local system = require "system"
      require("moonlet.monkey").patch_os()
      cooperative(system.sleep, 0.02)
      cooperative(require("socket").sleep, 0.02)
    ]]
  end)

  it("lets others run during luaposix's sleeps, whichever way they are got", function()
    run_quietly [[
      local slept = 0
      package.preload["posix.unistd"] = function()
        return { sleep = function(seconds)
          slept = slept + seconds
          return 0
        end }
      end
      package.preload["posix.time"] = function()
        package.loaded["posix.time"] = { nanosleep = function(request)
          slept = slept + request.tv_sec + request.tv_nsec
          return 0
        end }
      end
      package.preload.posix = function()
        return {
          sleep = require("posix.unistd").sleep,
          nanosleep = function(seconds, nanoseconds)
            slept = slept + seconds + nanoseconds
            return 0
          end,
        }
      end
      require("moonlet.monkey").patch_os()
      local posix, time = require "posix", require "posix.time"
      equal(posix.sleep, require("posix.unistd").sleep)
      equal(0, cooperative(posix.sleep, 1))
      equal(0, cooperative(time.nanosleep, { tv_sec = 0, tv_nsec = 20000000 }))
      equal(0, cooperative(posix.nanosleep, 0, 20000000))
      equal(0, slept)
    ]]
  end)

  it("leaves the search for modules as it was", function()
    run_quietly [[
      local function complaint(name)
        return (select(2, pcall(require, name)):gsub("\n\tno field package.preload", ""))
      end
      local before = complaint("posix.time")
      require("moonlet.monkey").patch_os()
      equal(before, complaint("posix.time"))
      equal(false, (pcall(require, "no.such.module")))
      package.preload["posix.time"] = function(...)
        error("cannot load " .. table.concat({ ... }, " "), 0)
      end
      equal("cannot load posix.time :preload:", select(2, pcall(require, "posix.time")))
      package.preload["posix.time"] = function() return "no table" end
      equal("no table", require "posix.time")
    ]]
  end)
end)

describe("patch_io", function()
  -- Runs a program whose standard input is a FIFO that it feeds itself: a bit at a time, and only
  -- while something else is blocked.
  local function run_fed(code)
    local path = os.tmpname()
    os.remove(path)
    assert(os.execute(("mkfifo %s && { : >%s & }"):format(path, path)))
    finally(function()
      os.remove(path)
    end)
    run_quietly([[
      local function feed(...)
        local writer = assert(require("moonlet.os").open("/proc/self/fd/0", "w"))
        local bits = { ... }
        moonlet.spawn(function()
          for _, bit in ipairs(bits) do
            moonlet.sleep(0.02)
            writer:write(bit)
          end
          writer:close()
        end)
      end
    ]] .. code, { stdin = path })
  end

  it("lets others run during io.read and io.lines", function()
    run_fed [[
      require("moonlet.monkey").patch_io()
      feed("one\n", "two\n", "3\nfour\n", "five")
      equal("one", cooperative(io.read))
      equal("t", cooperative(io.read, 1))
      local word, number = cooperative(io.read, "l", "n")
      equal("wo", word)
      equal(3, number)
      equal("\n", io.read("L"))
      local lines = {}
      cooperative(function()
        for line in io.lines() do
          lines[#lines + 1] = line
        end
      end)
      equal("four five", table.concat(lines, " "))
      equal(nil, io.read())
    ]]
  end)

  it("lets others run during methods of io.stdin", function()
    run_fed [[
      require("moonlet.monkey").patch_io()
      feed("one\n", "two\n")
      equal(io.stdin, io.input())
      equal("file", io.type(io.stdin))
      equal("one\ntwo\n", cooperative(io.stdin.read, io.stdin, "a"))
    ]]
  end)

  it("leaves io.read of a file and io.lines with a name as they were", function()
    run_fed [[
      feed("one\n")
      local name = os.tmpname()
      local file = io.open(name, "w")
      file:write("a\nb\n")
      file:close()
      require("moonlet.monkey").patch_io()
      for line in io.lines(name) do
        equal("a", line)
        break
      end
      local opened = io.input(name)
      equal("file", io.type(opened))
      equal(opened, io.input())
      equal("a", io.read())
      for line in io.lines() do
        equal("b", line)
      end
      equal(true, io.close(opened))
      equal(false, (pcall(io.read)))
      os.remove(name)
      equal(false, (pcall(io.input, name)))
      equal(false, (pcall(io.input, {})))
    ]]
  end)

  it("takes the old io.stdin for the new one", function()
    local _, stderr = run [[
      stdin = io.stdin
      local opened = io.input("/dev/null")
      require("moonlet.monkey").patch_io()
      equal(opened, io.input())
      equal(io.stdin, io.input(stdin))
      equal(io.stdin, io.input())
      equal(nil, io.read())
    ]]
    assert.equal("moonlet.monkey: a global has taken 'io.stdin' already; require moonlet.monkey " ..
                 "and patch first\n", stderr)
  end)

  it("reads a regular file, and nothing where there is nothing", function()
    run_quietly [[
      require("moonlet.monkey").patch_io()
      equal(nil, io.read())
      equal("", io.read("a"))
    ]]
  end)
end)
