-- The command `moonlet`: the command line of lua (checked against lua5.4 itself), the options of
-- its own, and the interactive mode on a terminal that script(1) makes.

local lfs = require "lfs"
local moonlet = require "moonlet"

local COMMAND = os.getenv("MOONLET") or "build/moonlet"

local dir -- of this spec's files; $D on the command lines below

local function spill(path, text)
  local file <close> = assert(io.open(path, "wb"))
  assert(file:write(text))
end

local function slurp(path)
  local file <close> = assert(io.open(path, "rb"))
  return file:read("a")
end

local FILES = {
  ["args.lua"] = [[
    local words = {}
    for i = -8, 8 do
      words[#words + 1] = arg[i] and ("%d=%s"):format(i, arg[i])
    end
    print(table.concat(words, " "), ...)
  ]],
  ["shebang.lua"] = "#!/usr/bin/env moonlet\nprint('second line', debug.getinfo(1).currentline)\n",
  ["fails.lua"] = "local function f()\n  error('oh dear')\nend\nf()\n",
  ["wrong.lua"] = "x = = 1\n",
  ["mod.lua"] = "return { name = ..., place = 'mod' }\n",
  ["badmod.lua"] = "error('cannot load')\n",
  ["init.lua"] = "initialised = 'by a file'\n",
  ["-"] = "print('a file called -')\n",
}

setup(function()
  dir = os.tmpname()
  os.remove(dir)
  assert(lfs.mkdir(dir))
  for name, text in pairs(FILES) do
    spill(dir .. "/" .. name, text)
  end
end)

teardown(function()
  for name in lfs.dir(dir) do
    os.remove(dir .. "/" .. name)
  end
  assert(lfs.rmdir(dir))
end)

-- The shell's words for a child with a clean environment, the given one added.
local function environment(env)
  local words = { "ulimit -c 0; unset LUA_INIT LUA_INIT_5_4;", ("export D='%s';"):format(dir) }
  for name, value in pairs(env or {}) do
    words[#words + 1] = ("export %s='%s';"):format(name, value)
  end
  return table.concat(words, " ")
end

-- Runs `program arguments` with the text `stdin` as its input. Returns its exit status (or
-- "signal n"), stdout and stderr.
local function run(program, arguments, stdin, env)
  local input, output, errors = dir .. "/stdin", dir .. "/stdout", dir .. "/stderr"
  spill(input, stdin or "")
  local _, how, number = os.execute(("%s exec timeout -k 1 20 %s %s <%s >%s 2>%s"):format(
    environment(env), program, arguments, input, output, errors))
  return how == "exit" and number or how .. " " .. number, slurp(output), slurp(errors)
end

-- Runs the command itself; fails unless the exit status is the expected one.
local function command(expected_status, arguments, stdin, env)
  local status, stdout, stderr = run(COMMAND, arguments, stdin, env)
  assert.equal(expected_status, status, stdout .. stderr)
  return stdout, stderr
end

describe("moonlet runs as lua5.4 does:", function()
  -- { arguments, standard input, environment }
  local CASES = {
    { [[-e "print(1 + 1)"]] },
    { [[-e"print('attached')"]] },
    { [[-e "x = 1" -e "print(x)"]] },
    { [[-e ""]] },
    { [[-e "print(...)" $D/args.lua]] },
    { [[-e "x ="]] },
    { [[-e "error('no')"]] },
    { [[-e "error()"]] },
    { [[-e "error(nil)"]] },
    { [[-e "error(17)"]] },
    { [[-e "error({})"]] },
    { [[-e "error(print)"]] },
    { [[-e "error(setmetatable({}, { __tostring = function() return 'I print' end }))"]] },
    { [[-e "error(setmetatable({}, { __tostring = function() return 17 end }))"]] },
    { [[-e "error(setmetatable({}, { __name = 'Thing' }))"]] },
    { [[-e "error('without a place', 0)"]] },
    { [[-e "local function f() return f() + 1 end f()"]] },
    { [[-e "io.stdout:write('out'); io.stderr:write('err'); os.exit(7)"]] },
    { [[-e "os.exit(true)"]] },
    { [[-e "os.exit(false, true)"]] },
    { [[-e "local x <close> = setmetatable({}, { __close = function() print('closed') end }) ]] ..
      [[os.exit(3, true)"]] },
    { [[-e "setmetatable({}, { __gc = function() print('collected') end })"]] },
    { [[-e "print(collectgarbage('incremental'))"]] },
    { [[-lmod -e "print(mod.name, mod.place)"]] },
    { [[-l mod -e "print(mod.name)"]] },
    { [[-l short=mod -e "print(short.name, mod)"]] },
    { [[-lshort=mod -e "print(short.name)"]] },
    { [[-l nothing_of_this_name]] },
    { [[-l badmod -e "print('not reached')"]] },
    { [[-W -e "warn('one ', 'warning')"]] },
    { [[-e "warn('off')" -W -e "warn('on') warn('@off') warn('off') warn('@on') warn('again')"]] },
    { [[-e "warn('@on') warn('@unknown') warn('seen')"]] },
    { [[$D/args.lua]] },
    { [[$D/args.lua -e 1 '' 'two words']] },
    { [[-W -e "y = 1" $D/args.lua -- -x]] },
    { [[-- $D/args.lua a]] },
    { [[-e "arg = { 'new', 'arguments' }" $D/args.lua old]] },
    { [[-e "arg = nil" $D/args.lua]] },
    { [[-e "for i = -9, 9 do io.write(tostring(arg[i]), ' ') end"]] },
    { [[$D/shebang.lua]] },
    { [[$D/fails.lua]] },
    { [[$D/wrong.lua]] },
    { [[$D/missing.lua]] },
    { [[$D/args.lua]], "print('not the program')" },
    { [[- a b]], "print(..., arg[0], arg[2])" },
    { [[-]], "error('in standard input')" },
    { [[-]], "#!not Lua\nprint('after the first line')" },
    { [[-- -]], "print('not the program')" },
    { [[]], "print(arg[0] ~= nil, ...)" },
    { [[-W]], "warn('from standard input')" },
    { [[-lmod]], "print(mod.name)" },
    { [[-E]], "print(package.path)" },
    { [[]], "print(io.read())\n-- a line of input" },
    { [[-e "print(initialised)"]], "", { LUA_INIT = 'initialised = "yes"' } },
    { [[-e "print(initialised)"]], "", { LUA_INIT = "@$D/init.lua" } },
    { [[-e "print(who)"]], "", { LUA_INIT = 'who = "any"', LUA_INIT_5_4 = 'who = "5.4"' } },
    { [[-E -e "print(initialised)"]], "", { LUA_INIT = 'initialised = "yes"' } },
    { [[-e "print('not reached')"]], "", { LUA_INIT_5_4 = 'error("in init")' } },
    { [[-e "print('not reached')"]], "", { LUA_INIT = "x =" } },
    { [[-e "print('not reached')"]], "", { LUA_INIT = "@/no/such/file" } },
    { [[-e "print(package.path)"]], "", { LUA_PATH = "some/?.lua", LUA_PATH_5_4 = "other/?.lua" } },
    { [[-E -e "print(package.path == os.getenv('LUA_PATH'))"]] },
    { [[-i -e "os.exit(5)"]], "print('not reached')" },
    { [[-i $D/fails.lua]], "print('not reached')" },
  }

  -- Both programs are called PROGRAM, wherever their names are; the lock of Moonlet's require is
  -- one level more in tracebacks; how deep a stack gets depends on what the program has on it.
  local function normalise(text, program)
    text = text:gsub("Lua 5%.4[^\n]*PUC%-Rio\n", "VERSION\n"):gsub("Moonlet [^\n]*\n", "VERSION\n")
    text = text:gsub("skipping %d+ levels", "skipping levels")
    text = text:gsub("\n\t%[C%]: in %?(\n\t%[C%]: in function 'require')", "%1")
    text = ("\n" .. text):gsub("\nmoonlet: ", "\nPROGRAM: "):sub(2)
    local from, to = text:find(program, 1, true)
    while from do
      text = text:sub(1, from - 1) .. "PROGRAM" .. text:sub(to + 1)
      from, to = text:find(program, from, true)
    end
    return text
  end

  local function outcome(program, case)
    local env = { LUA_PATH = dir .. "/?.lua" }
    for name, value in pairs(case[3] or {}) do
      env[name] = value:gsub("%$D", dir)
    end
    local status, stdout, stderr = run(program, case[1], case[2], env)
    return { status = status, stdout = normalise(stdout, program),
             stderr = normalise(stderr, program) }
  end

  for _, case in ipairs(CASES) do
    local title = case[1] .. (case[2] and " <<<" .. case[2] or "")
    for name, value in pairs(case[3] or {}) do
      title = name .. "=" .. value .. " " .. title
    end
    it(title, function()
      assert.same(outcome("lua5.4", case), outcome(COMMAND, case))
    end)
  end

  for _, option in ipairs { "-x", "-ix", "-vv", "-Ex", "-W1", "--e", "--unknown" } do
    it("refuses " .. option, function()
      local stdout, stderr = command(1, "-e 'print(1)' " .. option)
      assert.equal("", stdout)
      local complaint = ("moonlet: unrecognized option '%s'\nusage: moonlet "):format(option)
      assert.equal(complaint, stderr:sub(1, #complaint))
    end)
  end

  for _, words in ipairs { "-e", "-l", "-e -v", "-l -- script" } do
    it("misses an argument in " .. words, function()
      local stdout, stderr = command(1, words)
      assert.equal("", stdout)
      local complaint = ("moonlet: '%s' needs argument\n"):format(words:sub(1, 2))
      assert.equal(complaint, stderr:sub(1, #complaint))
    end)
  end

  it("unlike lua5.4 fails when the program on standard input fails", function()
    local _, stderr = command(1, "", "error('no')")
    assert.truthy(stderr:find("^moonlet: stdin:1: no\nstack traceback:\n"))
  end)
end)

describe("the script", function()
  it("runs in the main greenlet and may block", function()
    assert.equal("main\nslept\n", (command(0, "-", [[
      local moonlet = require "moonlet"
      print(moonlet.getcurrent().name)
      moonlet.sleep(0.001)
      print("slept")
    ]])))
  end)

  it("ends the program whatever greenlets remain, and their variables are closed", function()
    assert.equal("end of main\nclosed\n", (command(0, "-", [[
      local moonlet = require "moonlet"
      moonlet.spawn(function()
        local _ <close> = setmetatable({}, { __close = function() print("closed") end })
        moonlet.sleep(3600)
        print("not reached")
      end)
      moonlet.sleep(0)
      print("end of main")
    ]])))
  end)

  it("blocks in LUA_INIT, -e and -l too", function()
    local blocking = 'require("moonlet").sleep(0.001) io.write("%s ")'
    spill(dir .. "/blocks.lua", blocking:format("l"))
    local stdout = command(0, ("-e '%s' -lblocks"):format(blocking:format("e")), "", {
      LUA_INIT = blocking:format("init"),
      LUA_PATH = dir .. "/?.lua",
    })
    assert.equal("init e l ", stdout)
  end)

  it("gets SIGINT as an error in main", function()
    local _, stderr = command(1, "-", [[
      io.popen("kill -INT " .. io.open("/proc/self/stat"):read("n")):close()
      require("moonlet").sleep(5)
    ]])
    assert.truthy(stderr:find("interrupted!", 1, true))
  end)
end)

describe("-v", function()
  it("prints one line with both versions and ends", function()
    local stdout = command(0, "-v", "print('not the program')")
    assert.truthy(stdout:find("^Moonlet %S+  Copyright [^\n]+, Lua 5%.4[%.%d]*\n$"))
  end)

  it("goes before the script's output", function()
    assert.truthy(command(0, "-v -e 'print(17)'"):find("^Moonlet [^\n]*\n17\n$"))
  end)

  it("is --version too, which stops all else", function()
    assert.equal((command(0, "-v")), (command(0, "-e 'print(1)' --version nothing.lua")))
  end)
end)

describe("--help", function()
  it("prints every option on standard output", function()
    local stdout, stderr = command(0, "--help")
    assert.equal("", stderr)
    for option in ("-e -l -i -v -E -W -- --monkey --watchdog --stats --help --version")
                    :gmatch("%S+") do
      assert.truthy(stdout:find(option, 1, true), option)
    end
  end)
end)

describe("--stats", function()
  local function counters(stderr)
    local found = {}
    for name, value in stderr:gmatch("(%l[%w_]*) +(%S+)\n") do
      found[#found + 1] = name
      found[name] = tonumber(value)
    end
    return found
  end

  it("prints the counters on stderr at the end, in the order of their names", function()
    local stdout, stderr = command(0, "--stats -e 'print(1)'")
    assert.equal("1\n", stdout)
    local found = counters(stderr)
    assert.is_number(found.greenlets)
    assert.is_number(found.switches)
    local sorted = table.move(found, 1, #found, 1, {})
    table.sort(sorted)
    assert.same(sorted, table.move(found, 1, #found, 1, {}))
  end)

  it("prints them after an error", function()
    local _, stderr = command(1, "--stats -e 'error(\"no\")'")
    assert.is_number(counters(stderr).switches)
  end)

  it("prints them once when the script ends by os.exit, also from a greenlet", function()
    for _, exit in ipairs { "os.exit(4)", "os.exit(4, true)" } do
      local code = ("require('moonlet').spawn(function() %s end):join()"):format(exit)
      local _, stderr = command(4, ("--stats -e \"%s\""):format(code))
      assert.equal(1, select(2, stderr:gsub("\nswitches ", "")))
    end
  end)

  it("prints them whatever the script does to the libraries", function()
    local vandal = "local G = _G for name in pairs(G) do G[name] = nil end"
    local _, stderr = command(0, "--stats -", vandal)
    assert.is_number(counters(stderr).switches)
  end)
end)

describe("--watchdog", function()
  local BUSY = "local stop = os.clock() + 0.1 while os.clock() < stop do end"

  it("reports with its traceback what holds the hub longer than the seconds given", function()
    local _, stderr = command(0, ("--watchdog=0.02 -e '%s'"):format(BUSY))
    assert.truthy(stderr:find("(command line)", 1, true), stderr)
  end)

  it("makes SIGUSR1 tell what every greenlet does", function()
    local _, stderr = command(0, "--watchdog -", [[
      local moonlet = require "moonlet"
      moonlet.spawn(function() moonlet.sleep(60) end).name = "sleeper"
      io.popen("kill -USR1 " .. io.open("/proc/self/stat"):read("n")):close()
      while moonlet.stats().spawned < 2 do moonlet.sleep(0.001) end
      moonlet.sleep(0)
    ]])
    assert.truthy(stderr:find("sleeper", 1, true))
  end)

  -- A busy machine may take a second for it: then again.
  it("has 1 second by default", function()
    local stderr
    for _ = 1, 5 do
      _, stderr = command(0, ("--watchdog -e '%s'"):format(BUSY))
      if stderr == "" then
        break
      end
    end
    assert.equal("", stderr)
  end)

  for _, value in ipairs { "", "0", "-1", "soon", "1s", "nan" } do
    it(("refuses %q seconds"):format(value), function()
      local _, stderr = command(1, "--watchdog=" .. value)
      local complaint = ("moonlet: '--watchdog=%s' needs a positive number"):format(value)
      assert.equal(complaint, stderr:sub(1, #complaint))
    end)
  end
end)

describe("--monkey", function()
  -- Stands in for the module, to see what the command asks of it, and when.
  local FAKE = [[
    return setmetatable({}, {
      __index = function(_, name)
        return function()
          io.write(name, initialised and " late " or " ")
        end
      end,
    })
  ]]

  local function patched(status, option)
    lfs.mkdir(dir .. "/moonlet")
    spill(dir .. "/moonlet/monkey.lua", FAKE)
    return command(status, option .. " -e 'print(initialised)'", "",
                   { LUA_PATH = dir .. "/?.lua", LUA_INIT = "initialised = true" })
  end

  after_each(function()
    os.remove(dir .. "/moonlet/monkey.lua")
    os.remove(dir .. "/moonlet")
  end)

  it("patches everything before anything else runs", function()
    assert.equal("patch_all true\n", (patched(0, "--monkey")))
  end)

  it("patches what is listed, in the list's order", function()
    assert.equal("patch_socket patch_os true\n", (patched(0, "--monkey=socket,os")))
  end)

  for _, list in ipairs { "os,nothing", "nothing", "", "os,", ",os", "osio", "OS", "all all" } do
    it(("refuses to patch %q"):format(list), function()
      local stdout, stderr = patched(1, ("'--monkey=%s'"):format(list))
      assert.equal("", stdout)
      local complaint = ("moonlet: '--monkey=%s' does not list what can be patched\nusage: ")
        :format(list)
      assert.equal(complaint, stderr:sub(1, #complaint))
    end)
  end

  it("patches in fact", function()
    local code = "m = require [[moonlet.monkey]] print(m.is_patched [[os]], m.is_patched [[io]])"
    assert.equal("true\tfalse\n", (command(0, ("--monkey=os -e '%s'"):format(code))))
    assert.equal("true\ttrue\n", (command(0, ("--monkey -e '%s'"):format(code))))
    assert.equal("false\ttrue\n",
                 (command(0, ("--monkey=c,io -e '%s'"):format(code))))
  end)
end)

describe("-i", function()
  -- The dialogue without the banner: what was printed, what went to stderr.
  local function dialogue(input, options)
    local stdout, stderr = command(0, "-i " .. (options or ""), input)
    return stdout:gsub("^Moonlet [^\n]+\n", ""), stderr
  end

  it("begins with the version", function()
    assert.equal((command(0, "-v")) .. "> \n", (command(0, "-i")))
  end)

  it("prints what expressions give, and nothing for statements", function()
    assert.equal("> 2\n> > 5\tnil\n> > \n", (dialogue("1 + 1\nx = 5\nx, nil\n\n")))
  end)

  it("knows the old =x", function()
    assert.equal("> 3\n> \n", (dialogue("=1 + 2\n")))
  end)

  it("takes a last line without an end", function()
    assert.equal("> 3\n> \n", (dialogue("1 + 2")))
  end)

  it("asks for more lines until a statement is complete", function()
    assert.equal("> >> >> 1\n2\n> \n", (dialogue("for i = 1, 2 do\nprint(i)\nend\n")))
  end)

  it("reports a statement that the input's end leaves incomplete", function()
    local stdout, stderr = dialogue("if true then\n")
    assert.equal("> >> > \n", stdout)
    assert.equal("stdin:1: 'end' expected near <eof>\n", stderr)
  end)

  it("goes on after an error, and is no failure", function()
    local stdout, stderr = dialogue("error('one')\nx = = 2\nerror({})\n'still here'\n")
    assert.equal("> > > > still here\n> \n", stdout)
    assert.truthy(stderr:find("^stdin:1: one\nstack traceback:\n"))
    assert.truthy(stderr:find("\nstdin:1: unexpected symbol near '='\n", 1, true))
    assert.truthy(stderr:find("\n(error object is a table value)\n", 1, true))
  end)

  it("prints results by the global print, which may fail", function()
    local stdout, stderr = dialogue("print = nil\n17\n")
    assert.equal("> > > \n", stdout)
    assert.truthy(stderr:find("^error calling 'print' %(.*nil value.*%)\n$"))
  end)

  it("has its prompts from _PROMPT and _PROMPT2", function()
    assert.equal("> a b 1\na \n", (dialogue("_PROMPT, _PROMPT2 = 'a ', 'b '\nprint(\n1)\n")))
  end)

  it("leaves the input that follows a line to io.read", function()
    assert.equal("> > from input\n> \n", (dialogue("x = io.read()\nfrom input\nx\n")))
  end)

  it("goes on with what the script has left", function()
    spill(dir .. "/script.lua", "x = ...\nprint('script')")
    assert.equal("script\n> given\n> \n", (dialogue("x\n", "$D/script.lua given")))
  end)

  it("ends at once without any input", function()
    local status, stdout, stderr = run("sh -c", ("'exec %s -i <&-'"):format(COMMAND))
    assert.equal(0, status)
    assert.equal((command(0, "-v")) .. "> \n", stdout)
    assert.equal("", stderr)
  end)

  it("lets a line block, and greenlets run meanwhile", function()
    local stdout = dialogue("moonlet = require 'moonlet'\n" ..
                            "g = moonlet.spawn(print, 'spawned')\n" ..
                            "g:join()\n")
    assert.equal("> > > spawned\ntrue\n> \n", stdout)
  end)
end)

describe("on a terminal", function()
  local CTRL_C, CTRL_D = "\3", "\4"

  -- A command on a terminal of its own, which gets what is typed through a pipe.
  local Session = {}
  Session.__index = Session

  function Session:type(text)
    self.input:write(text)
    self.input:flush()
  end

  -- Waits until the terminal shows the text after what was waited for before.
  function Session:expect(text)
    local shown
    for _ = 1, 4000 do
      shown = slurp(self.output)
      local _, last = shown:find(text, self.seen + 1, true)
      if last then
        self.seen = last
        return
      end
      moonlet.sleep(0.005)
    end
    error(("%q does not come after character %d of:\n%s"):format(text, self.seen, shown), 2)
  end

  -- Waits for the end; returns the exit status.
  function Session:close()
    local _, _, status = self.input:close()
    self.input = nil
    return status
  end

  function Session:__close()
    if self.input then
      self:close()
    end
  end

  -- The shell that script(1) calls must not stay: it would die of Ctrl-C after the command.
  local function start(home)
    local output = dir .. "/terminal"
    spill(output, "")
    local env = environment { HOME = home or dir, INPUTRC = "/dev/null", TERM = "xterm" }
    local line = "%s exec timeout -k 1 25 script -qefc 'exec %s' %s >/dev/null 2>&1"
    local session = setmetatable({ output = output, seen = 0 }, Session)
    session.input = assert(io.popen(line:format(env, COMMAND, output), "w"))
    session:expect("Moonlet ")
    session:expect("> ")
    return session
  end

  it("starts without a script, and ends with the input", function()
    local session <close> = start()
    session:type("print('o' .. 'ne')\n")
    session:expect("one")
    session:expect("> ")
    session:type("=2 * 21\n")
    session:expect("42")
    session:expect("> ")
    session:type(CTRL_D)
    assert.equal(0, session:close())
  end)

  it("ends by os.exit", function()
    local session <close> = start()
    session:type("os.exit(5)\n")
    assert.equal(5, session:close())
  end)

  it("runs greenlets while the user thinks", function()
    local session <close> = start()
    session:type("m = require 'moonlet'\n")
    session:expect("> ")
    session:type("g = m.spawn(function() m.sleep(0.01) print('from a ' .. 'greenlet') end)\n")
    session:expect("from a greenlet")
  end)

  it("keeps what is typed while greenlets run", function()
    local session <close> = start()
    session:type("m = require 'moonlet'\n")
    session:expect("> ")
    session:type("function ticks() while true do m.sleep(0.01) print('ti' .. 'ck') end end\n")
    session:expect("> ")
    session:type("g = m.spawn(ticks)\n")
    session:expect("tick")
    session:type("print('ha")
    session:expect("tick")
    session:expect("tick")
    session:type("lf and ' .. 'half')\n")
    session:expect("half and half")
    session:expect("tick")
  end)

  it("interrupts a line that blocks by Ctrl-C", function()
    local session <close> = start()
    session:type("print('block' .. 'ing') require'moonlet'.sleep(60)\n")
    session:expect("blocking")
    session:type(CTRL_C)
    session:expect("interrupted!")
    session:expect("> ")
    session:type("print('al' .. 'ive')\n")
    session:expect("alive")
  end)

  it("interrupts a line that computes by Ctrl-C", function()
    local session <close> = start()
    session:type("print('comput' .. 'ing') while true do end\n")
    session:expect("computing")
    session:type(CTRL_C)
    session:expect("interrupted!")
    session:expect("> ")
    session:type("print('al' .. 'ive')\n")
    session:expect("alive")
  end)

  it("clears the line by Ctrl-C at the prompt, as often as wanted", function()
    local session <close> = start()
    for _ = 1, 2 do
      session:type("error('never run')")
      session:expect("never run')")
      session:type(CTRL_C)
      session:expect("> ")
    end
    session:type("print('cle' .. 'ar')\n")
    session:expect("clear")
    session:expect("> ")
    session:type(CTRL_D)
    assert.equal(0, session:close())
    assert.falsy(slurp(session.output):find("stdin:1:", 1, true))
  end)

  it("drops an incomplete statement by Ctrl-C", function()
    local session <close> = start()
    session:type("print('never run',\n")
    session:expect(">> ")
    session:type(CTRL_C)
    session:expect("> ")
    session:type("print('cle' .. 'ar')\n")
    session:expect("clear")
  end)

  if slurp(COMMAND):find("rl_callback_handler_install", 1, true) then
    it("completes names of globals, fields and methods", function()
      local session <close> = start()
      session:type("answers = setmetatable({ field = 1 }, { __index = { method = print } })\n")
      session:expect("> ")
      session:type("answ\t.fie\t + 40, ('x'):rep(2)\n")
      session:expect("41\txx")
      session:expect("> ")
      session:type("answ\t:me\t('met' .. 'hod')\n")
      session:expect("method\r\n")
      session:expect("> ")
      session:type("strin\t.forma\t('%s!', 'library')\n")
      session:expect("library!")
    end)

    it("keeps its history in the home directory", function()
      do
        local session <close> = start()
        session:type("x = 'first'\n")
        session:expect("> ")
        session:type("print('sec' .. 'ond')\n")
        session:expect("second")
        session:type("os.exit(0)\n")
        assert.equal(0, session:close())
      end
      assert.equal("x = 'first'\nprint('sec' .. 'ond')\nos.exit(0)\n",
                   slurp(dir .. "/.moonlet_history"))
      local session <close> = start()
      session:type("\27[A\27[A\n") -- two lines back
      session:expect("second")
    end)

    it("writes no history without a home directory", function()
      os.remove(dir .. "/.moonlet_history")
      local session <close> = start("/nonexistent")
      session:type("print('with' .. 'out')\n")
      session:expect("without")
      session:type(CTRL_D)
      assert.equal(0, session:close())
    end)
  end

  after_each(function()
    os.remove(dir .. "/.moonlet_history")
  end)
end)
