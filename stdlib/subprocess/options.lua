-- What the tables of options of moonlet.subprocess may say.

local core = require "moonlet.subprocess.core"
local moonlet = require "moonlet"

local check = {}

-- ---- marks ----

local function mark(name)
  return setmetatable({}, { __name = "mark", __tostring = function()
    return "subprocess." .. name
  end })
end

check.PIPE, check.DEVNULL, check.STDOUT = mark "PIPE", mark "DEVNULL", mark "STDOUT"

local MARKS = { [check.PIPE] = true, [check.DEVNULL] = true, [check.STDOUT] = true }

-- ---- complaints ----

local function describe(value)
  return value == nil and "no value" or type(value)
end

-- The level of the function that called into the module.
local function level_of_caller()
  local level = 3
  while true do
    local info = debug.getinfo(level, "S")
    local source = info and info.source or ""
    if not info or info.what ~= "C" and not source:find("subprocess%.lua$") and
       not source:find("subprocess/options%.lua$") then
      return level - 1
    end
    level = level + 1
  end
end

function check.argument(ok, number, name, expected, value)
  if not ok then
    error(("bad argument #%d to '%s' (%s expected, got %s)"):format(number, name, expected,
                                                                    describe(value)),
          level_of_caller())
  end
end

local function is_timeout(value)
  return type(value) == "userdata" and value.is and value:is(moonlet.Timeout)
end

function check.timeout(value, number, name)
  check.argument(value == nil or type(value) == "number" or is_timeout(value), number, name,
                 "number", value)
end

-- Complaints about a table of options are errors of whoever gave it.
local Complaints = {}
Complaints.__index = Complaints

function Complaints:fail(field, message, ...)
  error(("bad argument #1 to '%s' (field '%s': %s)"):format(self.name, field,
                                                            message:format(...)),
        level_of_caller())
end

function Complaints:expect(ok, field, expected, value)
  if not ok then
    self:fail(field, "%s expected, got %s", expected, describe(value))
  end
end

function Complaints:text(field, value)
  self:expect(type(value) == "string" or type(value) == "number", field, "string", value)
  local text = tostring(value)
  if text:find("\0", 1, true) then
    self:fail(field, "contains a zero byte")
  end
  return text
end

-- ---- fields ----

local SHELL = "/bin/sh"

-- The program's arguments, as a list of strings.
local function read_args(complain, options)
  local args, list = options.args, {}
  if type(args) == "string" then
    list[1] = complain:text("args", args)
  else
    complain:expect(type(args) == "table", "args", "list or string", args)
    for i, value in ipairs(args) do
      list[i] = complain:text("args", value)
    end
    if #list == 0 or #list < #args then
      complain:fail("args", #list == 0 and "empty list" or "list with holes")
    end
  end
  if options.shell then
    table.move(list, 1, #list, 3)
    list[1], list[2] = SHELL, "-c"
  end
  return list
end

-- "NAME=value" for each variable, in order; nil: as ours.
local function read_env(complain, env)
  if env == nil then
    return nil
  end
  complain:expect(type(env) == "table", "env", "table", env)
  local list = {}
  for name, value in pairs(env) do
    complain:expect(type(name) == "string", "env", "string as a name", name)
    if name == "" or name:find("=", 1, true) then
      complain:fail("env", "'%s' is no name of a variable", name)
    end
    list[#list + 1] = complain:text("env", name) .. "=" .. complain:text("env", value)
  end
  table.sort(list)
  return list
end

-- Where the program may be; `search`: the system looks for it along our own PATH.
local function read_program(complain, options, list)
  local program = list[1]
  if options.executable ~= nil then
    program = complain:text("executable", options.executable)
  end
  local path = options.env and options.env.PATH
  if program:find("/", 1, true) or program == "" then
    return { program }, false
  elseif not path then
    return { program }, true
  end
  local candidates = {}
  for folder in (tostring(path) .. ":"):gmatch("([^:]*):") do
    candidates[#candidates + 1] = (folder == "" and "." or folder) .. "/" .. program
  end
  return candidates, false
end

local STREAMS = { stdin = true, stdout = true, stderr = true }

local function check_stream(complain, name, value)
  if MARKS[value] then
    if value == check.STDOUT and name ~= "stderr" then
      complain:fail(name, "STDOUT is for stderr only")
    end
    return
  end
  local ok, message = pcall(core.fd, value)
  if not ok then
    complain:fail(name, "%s", tostring(message):match("%((.*)%)$") or tostring(message))
  end
end

local BOOLEANS = { "shell", "start_new_session" }

local FIELDS = { args = true, executable = true, stdin = true, stdout = true, stderr = true,
                 cwd = true, env = true, shell = true, start_new_session = true,
                 process_group = true }

local function check_names(complain, options, others)
  for field in pairs(options) do
    if not FIELDS[field] and not (others and others[field]) then
      complain:fail(tostring(field), "there is no such option")
    end
  end
end

-- The options by their names: without args, the elements of the table are these.
function check.named(options, name)
  check.argument(type(options) == "table", 1, name, "table", options)
  if options[1] == nil or options.args ~= nil then
    return options
  end
  local count = #options
  local named = { args = { table.unpack(options, 1, count) } }
  for field, value in pairs(options) do
    if not math.tointeger(field) or field < 1 or field > count then
      named[field] = value
    end
  end
  return named
end

-- The options of Popen, in the form in which they are used.
function check.options(options, name)
  local complain = setmetatable({ name = name }, Complaints)
  check_names(complain, options)
  for stream in pairs(STREAMS) do
    if options[stream] ~= nil then
      check_stream(complain, stream, options[stream])
    end
  end
  for _, field in ipairs(BOOLEANS) do
    local value = options[field]
    complain:expect(value == nil or type(value) == "boolean", field, "boolean", value)
  end
  local group = options.process_group
  complain:expect(group == nil or math.type(group) == "integer" and group >= 0, "process_group",
                  "integer of 0 or more", group)
  local checked = { start_new_session = options.start_new_session, process_group = group,
                    stdin = options.stdin, stdout = options.stdout, stderr = options.stderr }
  checked.list = read_args(complain, options)
  checked.environment = read_env(complain, options.env)
  checked.cwd = options.cwd ~= nil and complain:text("cwd", options.cwd) or nil
  checked.candidates, checked.search = read_program(complain, options, checked.list)
  return checked
end

-- ENOENT, EACCES, ENOTDIR: the program may be in the next folder.
local MISSING = { [2] = true, [13] = true, [20] = true }

function check.is_missing(errno)
  return MISSING[errno] == true
end

-- ---- options of run and its kin ----

local RUN_FIELDS = {
  run = { input = true, timeout = true, check = true, capture_output = true },
  call = { input = true, timeout = true },
  check_call = { input = true, timeout = true },
  check_output = { input = true, timeout = true },
}

local function refuse(complain, options, fields, reason)
  for _, field in ipairs(fields) do
    if options[field] ~= nil then
      complain:fail(field, "%s", reason)
    end
  end
end

-- Those of the function itself, and those of Popen.
function check.run_options(options, name)
  local complain = setmetatable({ name = name }, Complaints)
  local own, rest = {}, {}
  if name == "check_output" then
    refuse(complain, options, { "stdout", "check" }, "cannot be chosen here")
  end
  check_names(complain, options, RUN_FIELDS[name])
  for field, value in pairs(options) do
    (RUN_FIELDS[name][field] and own or rest)[field] = value
  end
  complain:expect(own.input == nil or type(own.input) == "string", "input", "string", own.input)
  complain:expect(own.timeout == nil or type(own.timeout) == "number" or is_timeout(own.timeout),
                  "timeout", "number", own.timeout)
  if own.input ~= nil then
    refuse(complain, options, { "stdin" }, "there is input")
    rest.stdin = check.PIPE
  end
  if own.capture_output then
    refuse(complain, options, { "stdout", "stderr" }, "capture_output says where it goes")
    rest.stdout, rest.stderr = check.PIPE, check.PIPE
  end
  if name == "check_output" then
    rest.stdout = check.PIPE
  end
  own.check = own.check or name == "check_call" or name == "check_output"
  check.options(rest, name)
  return own, rest
end

return check
