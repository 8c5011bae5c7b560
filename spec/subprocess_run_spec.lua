local moonlet = require "moonlet"
local subprocess = require "moonlet.subprocess"
local support = require "support"

local run, call = subprocess.run, subprocess.call
local check_call, check_output = subprocess.check_call, subprocess.check_output

local function bad_field(name, field, options)
  local message = support.error_of(function() subprocess[name](options) end)
  local expected = "subprocess_run_spec.lua:%%d+: bad argument #1 to '%s' %%(field '%s'"
  assert.matches(expected:format(name, field), message)
end

-- Ids of processes with that command line.
local function running(command)
  local pipe = io.popen("ps -eo pid,args")
  local list = {}
  for line in pipe:lines() do
    if line:match("^%s*%d+ (.*)$") == command then
      list[#list + 1] = line
    end
  end
  pipe:close()
  return list
end

describe("subprocess.run", function()
  it("runs a program to its end", function()
    local result = run { args = { "cat" }, input = "text", capture_output = true }
    assert.same({ args = { "cat" }, returncode = 0, stdout = "text", stderr = "" }, result)
    result = run { args = "exit 3", shell = true }
    assert.same({ args = "exit 3", returncode = 3 }, result)
  end)

  it("returns nil, message, errno if it cannot be started", function()
    local result, message, errno = run { args = { "nonexistent-program" } }
    if support.valgrind then
      return
    end
    assert.is_nil(result)
    assert.equal("nonexistent-program: No such file or directory", message)
    assert.equal(2, errno)
  end)

  it("returns nil, timeout when the program is killed and reaped", function()
    local before = moonlet.now()
    assert.same({ nil, "timeout" }, { run { args = { "sleep", "61.5" }, timeout = 0.02 } })
    assert.same({ nil, "timeout" },
                { run { args = { "sleep", "61.5" }, timeout = 0.02, capture_output = true } })
    assert.is_true(moonlet.now() - before < 10)
    assert.same({}, running("sleep 61.5"))
  end)

  it("times out where the program has ended, but another one still has its pipe", function()
    assert.same({ nil, "timeout" }, { run { args = "sleep 1 & echo timeout >&2", shell = true,
                                            stderr = subprocess.PIPE, timeout = 0.2 } })
    assert.equal("timeout", run { args = "printf timeout >&2", shell = true,
                                  stderr = subprocess.PIPE }.stderr)
  end)

  it("kills and reaps the program when it is killed, or a Timeout strikes", function()
    local g = moonlet.spawn(run, { args = { "sleep", "62.5" } })
    support.turns()
    g:kill()
    local limit <close> = moonlet.Timeout.start_new(0.01)
    assert.equal(limit, support.error_of(run, { args = { "sleep", "62.5" } }))
    local own <close> = moonlet.Timeout.start_new(0.01)
    assert.equal(own, support.error_of(run, { args = { "sleep", "62.5" }, timeout = own }))
    assert.same({}, running("sleep 62.5"))
  end)

  it("with check raises an error that has the code and the output", function()
    local err = support.error_of(run, { args = "echo out; echo err >&2; exit 5", shell = true,
                                        capture_output = true, check = true })
    assert.is_true(err:is(subprocess.CalledProcessError))
    assert.equal(5, err.returncode)
    assert.equal("out\n", err.output)
    assert.equal("err\n", err.stderr)
    assert.equal("echo out; echo err >&2; exit 5", err.cmd)
    assert.equal(0, run { args = { "true" }, check = true }.returncode)
  end)

  it("checks its options by name", function()
    bad_field("run", "args", {})
    bad_field("run", "input", { args = "true", input = 5 })
    bad_field("run", "stdin", { args = "true", input = "", stdin = subprocess.PIPE })
    bad_field("run", "stdout", { args = "true", capture_output = true, stdout = 1 })
    bad_field("run", "timeout", { args = "true", timeout = "1" })
    bad_field("run", "bufsize", { args = "true", bufsize = 1 })
    bad_field("call", "check", { args = "true", check = true })
    bad_field("call", "cwd", { args = "true", cwd = {} })
    bad_field("check_output", "stdout", { args = "true", stdout = 1 })
    bad_field("check_output", "check", { args = "true", check = false })
    bad_field("check_output", "stdin", { args = "true", input = "x", stdin = 0 })
    assert.matches("bad argument #1 to 'run' %(table expected, got string%)",
                   support.error_of(function() run("true") end))
  end)
end)

describe("subprocess.call", function()
  it("takes the options' own elements as args, as all do", function()
    assert.equal(3, subprocess.call { "exit 3", shell = true })
    assert.equal("a b\n", subprocess.check_output { "echo", "a b" })
    assert.same({ "true" }, run { "true" }.args)
    assert.same({ "false" }, support.error_of(subprocess.check_call, { "false" }).cmd)
  end)

  it("returns the exit code, or minus the signal", function()
    assert.equal(0, (call { args = { "true" } }))
    assert.equal(1, (call { args = { "false" } }))
    assert.equal(-15, (call { args = "kill $$", shell = true }))
    assert.same({ nil, "timeout" }, { call { args = { "sleep", "63.5" }, timeout = 0.01 } })
    assert.same({}, running("sleep 63.5"))
  end)

  it("lets others run", function()
    local seen = support.trace()
    local list = {}
    for i = 1, 3 do
      list[i] = moonlet.spawn(function()
        seen("begin")
        call { args = { "sleep", "0.05" } }
        seen("end")
      end)
    end
    moonlet.joinall(list)
    assert.equal("begin begin begin end end end", tostring(seen))
  end)
end)

describe("subprocess.check_call", function()
  it("returns 0, or raises", function()
    assert.equal(0, (check_call { args = { "true" } }))
    local err = support.error_of(check_call, { args = { "sh", "-c", "exit 7" } })
    assert.is_true(err:is(subprocess.CalledProcessError))
    assert.equal(7, err.returncode)
    assert.equal("the command 'sh -c exit 7' ended with exit code 7", tostring(err))
    err = support.error_of(check_call, { args = "kill -9 $$", shell = true })
    assert.equal(-9, err.returncode)
    assert.equal("the command 'kill -9 $$' was ended by signal 9", tostring(err))
    assert.is_nil(not support.valgrind and check_call { args = { "nonexistent-program" } } or nil)
  end)
end)

describe("subprocess.check_output", function()
  it("returns what is written to stdout, or raises with it", function()
    assert.equal("hi\n", (check_output { args = { "echo", "hi" } }))
    assert.equal("in", (check_output { args = { "cat" }, input = "in" }))
    assert.equal("both\nboth\n", (check_output { args = "echo both; echo both >&2", shell = true,
                                                 stderr = subprocess.STDOUT }))
    local err = support.error_of(check_output, { args = "echo partly; exit 1", shell = true })
    assert.equal("partly\n", err.output)
    assert.equal(1, err.returncode)
    assert.same({ nil, "timeout" },
                { check_output { args = { "sleep", "64.5" }, timeout = 0.01 } })
  end)
end)
