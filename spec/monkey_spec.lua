-- moonlet.monkey patches a whole program, so each spec runs one of its own.

local support = require "support"

-- What the programs begin with: expectations, and a count of what runs beside a blocking call.
local PRELUDE = [[
  local moonlet = require "moonlet"

  local function equal(expected, got)
    if expected ~= got then
      error(("%s expected, got %s"):format(tostring(expected), tostring(got)), 2)
    end
  end

  -- f's results; it must have let others run.
  local function cooperative(f, ...)
    local turns = 0
    local other <close> = setmetatable({}, { __close = function(self) self.greenlet:kill() end })
    other.greenlet = moonlet.spawn(function()
      while true do
        moonlet.sleep(0.002)
        turns = turns + 1
      end
    end)
    local results = table.pack(f(...))
    if turns < 2 then
      error("nothing else ran", 2)
    end
    return table.unpack(results, 1, results.n)
  end
]]

-- Runs a program, which must end well; returns what it writes to stdout and to stderr.
local function run(code, opts)
  local result = support.run_script(PRELUDE .. code, opts)
  assert.equal(0, result.status, result.stdout .. result.stderr)
  return result.stdout, result.stderr
end

-- A program that must write nothing to stderr.
local function run_quietly(code, opts)
  local stdout, stderr = run(code, opts)
  assert.equal("", stderr)
  return stdout
end

-- A server greenlet that answers after a while; `url` is its address.
local SERVER = [[
  local server = require("moonlet.socket").bind("127.0.0.1", 0)
  local url = ("http://127.0.0.1:%d/"):format(select(2, server:getsockname()))
  local function serve(client)
    local path = client:receive():match("GET (%S+)")
    repeat until client:receive() == ""
    moonlet.sleep(0.02)
    client:send("HTTP/1.0 200 OK\r\nContent-Length: " .. #path .. "\r\n\r\n" .. path)
    client:close()
  end
  moonlet.spawn(function()
    while true do
      moonlet.spawn(serve, server:accept())
    end
  end)
]]

describe("patch_socket", function()
  it("makes socket, socket.core and socket.unix ours", function()
    run_quietly [[
      require("moonlet.monkey").patch_socket()
      local ours = require "moonlet.socket"
      equal(ours, require "socket")
      equal(ours, require "socket.core")
      equal(ours.unix, require "socket.unix")
      package.loaded.socket = nil
      equal(ours, require "socket")
    ]]
  end)

  it("lets LuaSocket's http run on it, many requests at once", function()
    run_quietly([[
      require("moonlet.monkey").patch_socket()
    ]] .. SERVER .. [[
      local http = require "socket.http"
      local function get(path)
        local body, code = http.request(url .. path)
        equal(200, code)
        return body
      end
      equal("/alone", cooperative(get, "alone"))
      local start, greenlets = moonlet.now(), {}
      for i = 1, 20 do
        greenlets[i] = moonlet.spawn(get, i)
      end
      moonlet.joinall(greenlets, nil, true)
      for i = 1, 20 do
        equal("/" .. i, greenlets[i].value)
      end
      assert(moonlet.now() - start < 20 * 0.02, "one after the other")
    ]])
  end)

  it("lets LuaSocket's other modules run on it", function()
    run_quietly([[
      require("moonlet.monkey").patch_socket()
    ]] .. SERVER .. [[
      local http, ltn12, mime = require "socket.http", require "ltn12", require "mime"
      local words = {}
      local ok, code = http.request { url = url .. "sink", sink = ltn12.sink.table(words) }
      equal(1, ok)
      equal(200, code)
      equal("/sink", table.concat(words))
      equal("L3Npbms=", (mime.b64("/sink")))
      local smtp = require "socket.smtp"
      local sent, message = smtp.send { from = "<a@b>", rcpt = "<c@d>", server = "127.0.0.1",
                                        port = 1, source = smtp.message { body = "text" } }
      equal(nil, sent)
      equal("connection refused", message)
      local body, problem = require("socket.ftp").get("ftp://127.0.0.1:1/file")
      equal(nil, body)
      equal("connection refused", problem)
    ]])
  end)

  it("patches in place what is loaded already", function()
    run_quietly([[
      local socket, http = require "socket", require "socket.http"
      local unix = require "socket.unix"
      require("moonlet.monkey").patch_socket()
      local ours = require "moonlet.socket"
      for _, name in ipairs { "tcp", "udp4", "connect", "bind", "select", "sleep", "socketpair" } do
        equal(ours[name], socket[name])
      end
      equal(ours.dns.toip, socket.dns.toip)
      equal(ours.unix.stream, unix.stream)
      assert(unix():is(ours.Socket))
      equal(http, require("socket").http)
      cooperative(socket.sleep, 0.02)
    ]] .. SERVER .. [[
      equal("/old", cooperative(http.request, url .. "old"))
      local body, message = http.request("http://127.0.0.1:1/")
      equal(nil, body)
      equal("connection refused", message)
    ]])
  end)

  it("leaves the old try to the old protect", function()
    run_quietly [[
      local old = require "socket"
      local protected = old.protect(function() old.try(nil, "old") end)
      require("moonlet.monkey").patch_socket()
      local new = require "socket"
      local result, message = protected()
      equal(nil, result)
      equal("old", message)
      result, message = new.protect(function() new.try(nil, "new") end)()
      equal(nil, result)
      equal("new", message)
    ]]
  end)

  it("leaves its hands off socket.serial", function()
    run_quietly [[
      require("moonlet.monkey").patch_socket()
      equal("function", type(require "socket.serial"))
    ]]
  end)
end)

describe("patch_select", function()
  it("lets others run during LuaSocket's select", function()
    run_quietly [[
      local socket = require "socket"
      local server = socket.bind("127.0.0.1", 0)
      require("moonlet.monkey").patch_select()
      local readable, writable, problem = cooperative(socket.select, { server }, nil, 0.02)
      equal(0, #readable)
      equal(0, #writable)
      equal("timeout", problem)
      local client = assert(socket.connect("127.0.0.1", (select(2, server:getsockname()))))
      readable = socket.select({ server }, nil, 5)
      equal(server, readable[1])
      client:close()
    ]]
  end)

  it("patches a socket that is loaded later", function()
    run_quietly [[
      require("moonlet.monkey").patch_select()
      local socket = require "socket"
      assert(socket ~= require "moonlet.socket")
      cooperative(socket.select, nil, nil, 0.02)
    ]]
  end)

  -- A stand-in with luaposix's interface, whose functions say how long they were to wait.
  local POSIX = [[
    local ours = require "moonlet.socket"
    local near, far = ours.socketpair()
    local waited = 0
    local function look(fd)
      return #require("moonlet.select").select({ fd }, nil, nil, 0)
    end
    package.preload["posix.poll"] = function()
      return {
        poll = function(fds, timeout)
          waited = math.max(waited, timeout or 1 / 0)
          local count = 0
          for fd, entry in pairs(fds) do
            local ready = entry.events.IN and look(fd) or 0
            entry.revents = { IN = ready > 0 }
            count = count + ready
          end
          return count
        end,
        rpoll = function(fd, timeout)
          waited = math.max(waited, timeout)
          if fd < 0 then
            return nil, "bad", 9
          end
          return look(fd)
        end,
      }
    end
  ]]

  it("lets others run during luaposix's poll and rpoll", function()
    run_quietly(POSIX .. [[
      require("moonlet.monkey").patch_select()
      local poll = require "posix.poll"
      local fds = { [near:getfd()] = { events = { IN = true } } }
      equal(0, cooperative(poll.poll, fds, 20))
      equal(0, cooperative(poll.rpoll, near:getfd(), 20))
      moonlet.spawn_later(0.02, far.send, far, "x")
      equal(1, cooperative(poll.poll, fds))
      equal(true, fds[near:getfd()].revents.IN)
      equal(1, poll.rpoll(near:getfd(), -1))
      near:receive(1)
      moonlet.spawn_later(0.02, far.send, far, "x")
      equal(1, cooperative(poll.rpoll, near:getfd(), -1))
      equal(0, poll.poll({}, 0))
      equal("nil bad 9", table.concat({ "nil", select(2, poll.rpoll(-1, 1000)) }, " "))
      equal(0, waited)
    ]])
  end)
end)

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

describe("patch_all", function()
  it("patches everything that there is, and tells", function()
    run_quietly [[
      local monkey = require "moonlet.monkey"
      local names = { "socket", "ssl", "os", "io", "select" }
      for _, name in ipairs(names) do
        equal(false, monkey.is_patched(name))
      end
      equal(true, monkey.patch_all())
      for _, name in ipairs(names) do
        equal(true, monkey.is_patched(name))
      end
      equal(false, monkey.is_patched("c"))
    ]]
  end)

  it("does nothing when everything is patched", function()
    run_quietly [[
      local monkey = require "moonlet.monkey"
      local socket = require "socket"
      monkey.patch_select()
      local select_before = socket.select
      monkey.patch_socket()
      monkey.patch_all()
      local execute, read, sleep = os.execute, io.read, socket.sleep
      monkey.patch_all()
      monkey.patch_os()
      equal(execute, os.execute)
      equal(read, io.read)
      equal(sleep, socket.sleep)
      equal(select_before, socket.select)
      equal(sleep, require("moonlet.socket").sleep)
    ]]
  end)

  it("is all that --monkey does, before anything else loads", function()
    if support.is_moonlet then
      local stdout = run_quietly([[
        print(require("socket") == require("moonlet.socket"), patched_early)
      ]], { options = { "--monkey" },
            env = { LUA_INIT = "patched_early = package.loaded['moonlet.monkey'] ~= nil" } })
      assert.equal("true\ttrue\n", stdout)
    end
  end)
end)

describe("is_patched", function()
  it("refuses names that it does not know", function()
    run_quietly [[
      local monkey = require "moonlet.monkey"
      local ok, message = pcall(monkey.is_patched, "thread")
      equal(false, ok)
      equal("bad argument #1 to 'is_patched' (there is no 'thread' to patch)", message)
      equal(false, (pcall(monkey.is_patched)))
    ]]
  end)
end)

describe("patch_c", function()
  it("raises as long as it is not there", function()
    run_quietly [[
      local ok, message = pcall(require("moonlet.monkey").patch_c)
      equal(false, ok)
      assert(message:find("patch_c is not part of this build", 1, true), message)
    ]]
  end)
end)

describe("who has taken a function before it was patched", function()
  local function warnings(code)
    local _, stderr = run(code)
    local list = {}
    for line in stderr:gmatch("[^\n]+") do
      list[#list + 1] = line:match("^moonlet.monkey: (.*) already; require moonlet.monkey and " ..
                                   "patch first$") or "not a warning: " .. line
    end
    return list
  end

  it("is named, with the function: a module's field, upvalue or table", function()
    assert.same({ "module 'deep' has taken 'socket.dns.toip'",
                  "module 'field' has taken 'socket.tcp'",
                  "module 'function' has taken 'os.execute'",
                  "module 'method' has taken 'io.popen'",
                  "module 'the.upvalue' has taken 'socket.sleep'" }, warnings [[
      local modules = {
        field = function() return { make = require("socket").tcp } end,
        ["the.upvalue"] = function()
          local sleep = require("socket").sleep
          return { nap = function() sleep(1) end }
        end,
        deep = function()
          local toip = require("socket").dns.toip
          local function resolve() return toip("localhost") end
          return { { { resolve } } }
        end,
        method = function()
          return setmetatable({}, { __index = { popen = io.popen } })
        end,
        ["function"] = function() return os.execute end,
        innocent = function()
          local socket = require("socket")
          return { nap = function() socket.sleep(1) end, time = socket.gettime }
        end,
      }
      for name, load in pairs(modules) do
        package.preload[name] = load
        require(name)
      end
      require("moonlet.monkey").patch_all()
    ]])
  end)

  it("is named if it is a global or a local of the running script", function()
    local list = warnings [[
      nap = require("socket").sleep
      local system = require "system"
      local pause = system.sleep
      local function patch()
        require("moonlet.monkey").patch_os()
      end
      patch()
      return pause
    ]]
    assert.equal(2, #list)
    assert.equal("a global has taken 'socket.sleep'", list[1])
    assert.truthy(list[2]:find(" has taken 'system.sleep'", 1, true), list[2])
  end)

  it("is named once", function()
    local list = warnings [[
      popen, popen_again = io.popen, io.popen
      local monkey = require "moonlet.monkey"
      monkey.patch_os()
      monkey.patch_os()
      monkey.patch_all()
    ]]
    assert.same({ "a global has taken 'io.popen'" }, list)
  end)

  it("is nobody, if all have patched first or look functions up when they call them", function()
    assert.same({}, warnings [[
      local monkey = require "moonlet.monkey"
      local socket, system = require "socket", require "system"
      local http, smtp, ftp = require "socket.http", require "socket.smtp", require "socket.ftp"
      monkey.patch_all()
      local execute, sleep, read = os.execute, system.sleep, io.read
      monkey.patch_all()
      return { http, smtp, ftp, socket, execute, sleep, read }
    ]])
  end)
end)
