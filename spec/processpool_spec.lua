local Pool = require("moonlet.processpool").Pool
local moonlet = require "moonlet"
local support = require "support"
local workers = require "support.workers"

local block, double = workers.block, workers.double

-- Functions that run in workers refer to no others.

local function getpid()
  local file <close> = assert(io.open("/proc/self/stat"))
  return tonumber(file:read("a"):match("^%d+"))
end

local function kill_oneself()
  os.execute("kill -9 $PPID")
end

-- The descriptors of a process, without the one that reads them.
local function descriptors(pid)
  local list = {}
  for name in require("lfs").dir(("/proc/%s/fd"):format(pid or "self")) do
    if name:match("^%d+$") then
      list[#list + 1] = tonumber(name)
    end
  end
  table.sort(list)
  return list
end

-- Whether a process runs. (Whoever inherits those of a program that has ended may reap them late.)
local function exists(pid)
  local file <close> = io.open(("/proc/%d/stat"):format(pid))
  local state = file and (file:read("a") or ""):match("^%d+ %b() (%a)")
  return state ~= nil and state ~= "Z"
end

-- The children of this process, also those that have ended and are not reaped.
local function children()
  local pid, list = support.getpid(), {}
  local file <close> = assert(io.open(("/proc/%d/task/%d/children"):format(pid, pid)))
  for child in file:read("a"):gmatch("%d+") do
    list[child] = true
  end
  return list
end

describe("moonlet.processpool", function()
  local before

  before_each(function()
    before = children()
  end)

  -- No spec leaves a child, dead or alive.
  after_each(function()
    support.eventually(function()
      collectgarbage()
      for child in pairs(children()) do
        if not before[child] then
          return false
        end
      end
      return true
    end)
  end)

  it("runs functions in other processes, which stay", function()
    local pool <close> = Pool(1)
    local pid = pool:apply(getpid)
    assert.not_equal(support.getpid(), pid)
    assert.equal(pid, pool:apply(getpid))
    assert.is_true(exists(pid))
  end)

  it("takes large values both ways", function()
    local pool <close> = Pool(1)
    local text = ("large "):rep(2000000)
    local copy = pool:apply(function(value)
      return value .. value
    end, { text })
    assert.equal(#text * 2, #copy)
    assert.equal(text, copy:sub(1, #text))
  end)

  describe("a worker", function()
    it("has no input, the program's output, and no other descriptors of it", function()
      local file <close> = assert(io.open("/dev/null")) -- one that programs would inherit
      local pool <close> = Pool(2)
      pool.size = 2
      local input, list = pool:apply(function()
        local names = {}
        local listing <close> = io.popen("readlink /proc/$PPID/fd/*")
        for line in listing:lines() do
          names[#names + 1] = line:gsub(":.*", "")
        end
        return io.read("a"), names
      end)
      assert.equal("", input)
      assert.equal("/dev/null", list[1])
      local sockets, files = 0, 0
      for i = 4, #list do
        sockets = sockets + (list[i] == "socket" and 1 or 0)
        files = files + (list[i]:find("^/") and 1 or 0)
      end
      assert.equal("1 0", sockets .. " " .. files)
      assert.is_not_nil(file)
    end)

    it("writes what it prints before its result is there", function()
      local result = support.run_script([[
        local pool = require("moonlet.processpool").Pool(1)
        for i = 1, 3 do
          pool:apply(function(n) io.write("worker ", n, "\n") end, { i })
          io.write("program ", i, "\n")
          io.flush()
        end
      ]])
      assert.equal("worker 1\nprogram 1\nworker 2\nprogram 2\nworker 3\nprogram 3\n",
                   result.stdout)
      assert.equal("", result.stderr)
    end)

    it("does not run what the environment gives to an interpreter", function()
      local result = support.run_script([[
        local pool = require("moonlet.processpool").Pool(1)
        print(initialized, pool:apply(function() return initialized end))
      ]], { env = { LUA_INIT = "initialized = true", LUA_INIT_5_4 = "initialized = true" } })
      assert.equal("true\tnil\n", result.stdout)
    end)

    it("that dies gives its caller an error, and is replaced", function()
      support.uncaught()
      local pool <close> = Pool(1)
      local pid = pool:apply(getpid)
      local err = support.error_of(pool.apply, pool, kill_oneself)
      assert.equal(("worker %d was killed by signal 9 (Killed)"):format(pid), err)
      assert.equal(0, pool.size)
      assert.not_equal(pid, pool:apply(getpid))
      pid = pool:apply(getpid)
      err = support.error_of(pool.apply, pool, function()
        os.exit(7)
      end)
      assert.equal(("worker %d exited with status 7"):format(pid), err)
      assert.equal(4, pool:apply(double, { 2 }))
    end)

    it("that dies leaves the other tasks alone", function()
      support.uncaught()
      local pool <close> = Pool(2)
      local function maybe(n)
        if n % 5 == 0 then
          os.execute("kill -9 $PPID")
        end
        return n
      end
      local ended, failed = 0, 0
      local next_result = pool:imap_unordered(maybe, workers.numbers(20))
      for _ = 1, 20 do
        local ok, result = pcall(next_result)
        if ok then
          ended = ended + result
        else
          failed = failed + 1
          assert.truthy(result:find("^worker %d+ was killed by signal 9"), result)
        end
      end
      assert.equal("4 160", failed .. " " .. ended)
    end)

    it("that dies between tasks is replaced without an error", function()
      local pool <close> = Pool(1)
      local pid = pool:apply(getpid)
      support.kill("KILL", pid)
      support.eventually(function()
        return not exists(pid)
      end)
      assert.not_equal(pid, pool:apply(getpid))
    end)

    it("does not end by the terminal's SIGINT", function()
      local pool <close> = Pool(1)
      local pid = pool:apply(getpid)
      support.kill("INT", pid)
      assert.equal(pid, pool:apply(getpid))
    end)
  end)

  describe("a kill of a task's greenlet", function()
    it("ends its worker; the next task has another, and its own result", function()
      local pool <close> = Pool(1)
      local gate <close> = workers.gate()
      local pid = pool:apply(getpid)
      local greenlet = block(pool, gate, "late")
      gate:await()
      local next_one = pool:spawn(double, 21)
      assert.is_true(greenlet:kill())
      assert.equal(42, next_one:get())
      support.eventually(function()
        return not exists(pid)
      end)
      assert.equal(2, pool:free_count())
    end)

    it("ends what computes for ever, and what will not listen", function()
      local pool <close> = Pool(1)
      local greenlet = pool:spawn(function()
        while true do
          pcall(function()
            while true do end
          end)
        end
      end)
      support.turns()
      assert.is_true(greenlet:kill())
      assert.same({ true, 0 }, { pool:kill() })
      assert.equal(2, pool:apply(double, { 1 }))
    end)

    it("leaves the worker alone if only a caller of apply is killed", function()
      local pool <close> = Pool(1)
      local gate <close> = workers.gate()
      local pid = pool:apply(getpid)
      local caller = moonlet.spawn(pool.apply, pool, workers.pass, { gate.closed, gate.begun, 1 })
      gate:await()
      assert.is_true(caller:kill())
      local next_one = pool:spawn(getpid)
      gate:open()
      assert.equal(pid, next_one:get())
    end)
  end)

  it("leaves no descriptors behind", function()
    support.uncaught()
    collectgarbage()
    local open = #descriptors()
    for _ = 1, 3 do
      local pool <close> = Pool(3)
      local gate <close> = workers.gate()
      pool:map(double, workers.numbers(6))
      pcall(pool.apply, pool, kill_oneself)
      local greenlet = block(pool, gate)
      gate:await()
      greenlet:kill()
    end
    support.eventually(function()
      return #descriptors() == open
    end)
  end)

  it("is collected with its workers", function()
    local pid
    do
      local pool = Pool(1)
      pid = pool:apply(getpid)
    end
    support.eventually(function()
      collectgarbage()
      return not exists(pid)
    end)
  end)

  describe("when the program ends", function()
    local function worker_of(code)
      local result = support.run_script([[
        local moonlet = require "moonlet"
        local pool = require("moonlet.processpool").Pool(1)
        local function tell()
          local file <close> = io.open("/proc/self/stat")
          print((file:read("a"):match("^%d+")))
          io.flush()
        end
        local function compute()
          while true do end
        end
        pool:apply(tell)
      ]] .. code)
      assert.equal("", result.stderr)
      return assert(tonumber(result.stdout))
    end

    it("idle workers end, and those at work", function()
      for _, code in ipairs {
        "",
        "os.exit(0)",
        "os.exit(0, true)",
        "pool:spawn(compute) moonlet.sleep(0.01)",
        "pool:spawn(compute) moonlet.sleep(0.01) os.exit(0)",
        "pool:spawn(compute) moonlet.sleep(0.01) os.execute('kill -9 $PPID')",
      } do
        local pid = worker_of(code)
        support.eventually(function()
          return not exists(pid)
        end)
      end
    end)
  end)

  describe("in a program that is no interpreter", function()
    local program = os.tmpname()
    local folder = debug.getinfo(require("moonlet.pool").Group.new, "S").source
      :match("^@(.*)moonlet/pool.lua$")

    setup(function()
      assert(os.execute(("cp '%s' '%s' && chmod 700 '%s'"):format(support.interpreter, program,
                                                                   program)))
    end)

    teardown(function()
      os.remove(program)
    end)

    it("forks its workers, which have a copy of the state", function()
      local result = support.run_script([[
        local moonlet = require "moonlet"
        local pool = require("moonlet.processpool").Pool(2)
        moonlet.set_error_handler(function() end)
        io.write("once\n")
        mine = 42
        local function double(n) return 2 * n, mine end
        print(pool:apply(double, { 1 }))
        print(table.concat(pool:map(double, { 1, 2, 3, 4 }), " "))
        local endless = pool:spawn(function() while true do end end)
        moonlet.sleep(0.01)
        print(endless:kill(), pool:apply(double, { 2 }))
        print(select(2, pcall(pool.apply, pool, function() os.exit(3) end)):gsub("%d+", "N", 1))
        print(moonlet.spawn(function()
          return pool:apply(function() require("moonlet").sleep(0.001) return "slept" end)
        end):get())
        local list = {}
        for i = 1, 3 do list[i] = pool:spawn(function() while true do end end) end
        moonlet.sleep(0.01)
        list[1]:kill()
        list[2]:kill()
        list[3]:kill()
        print(pool:apply(double, { 3 }))
      ]], { interpreter = program,
            env = { LUA_PATH = folder .. "?.lua;;", LUA_CPATH = folder .. "?.so;;" } })
      assert.equal("", result.stderr)
      assert.equal("once\n2\t42\n2 4 6 8\ntrue\t4\t42\nworker N exited with status 3\t1\nslept\n" ..
                   "6\t42\n", result.stdout)
    end)
  end)

  it("says why a worker cannot be started", function()
    local result = support.run_script([[
      local pool = require("moonlet.processpool").Pool(1)
      pool:apply(function() end)
      pool.size = 0
      for i = 1, 1e6 do
        local file = io.open("/dev/null")
        if not file then break end
        _G[i] = file
      end
      print(pcall(function() pool:apply(function() end) end))
      print(pool:free_count())
      for i = 1, 20 do _G[i]:close() end
      print(pool:apply(function() return "again" end))
    ]], { interpreter = "/bin/sh", options = { "-c", "ulimit -n 64; exec \"$0\" \"$@\"",
                                                support.interpreter } })
    local why = "false\t[^:]*:%d+: cannot start a worker: Too many open files\n"
    assert.truthy(result.stdout:find("^" .. why .. "2\nagain\n$"), result.stdout)
  end)
end)
