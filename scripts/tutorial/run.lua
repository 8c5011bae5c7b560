-- Runs the tutorial's scripts in order, each in an interpreter of its own, and holds what they
-- print and how long they take against what is expected.
--
--   moonlet scripts/tutorial/run.lua [--quiet] [NN ...]
--
-- NN chooses scripts by number; --quiet shows failures only. A script NN-name.lua must print
-- exactly what NN-name.out says, or satisfy NN-name.check.lua: a chunk that gets the list of lines
-- and the seconds elapsed, and returns true, or nil and a message. The exit status is 1 if a script
-- failed.

local gettime = require("moonlet.socket").gettime

-- The scripts in order: the seconds each takes; in `at`, the seconds at which some of its lines
-- appear; in `stderr`, what it reports on standard error, where all others must be silent.
local scripts = {
  { name = "01-synchronous-asynchronous", takes = 0 },
  { name = "02-select", takes = 2, at = { [4] = 2, [5] = 2 } },
  { name = "03-random-tasks", takes = 0 },
  { name = "04-fetching", takes = 0.5 },
  { name = "05-determinism", takes = 0 },
  { name = "06-spawning", takes = 2, at = { 1, 2 } },
  { name = "07-subclassing", takes = 3, at = { 0 } },
  { name = "08-greenlet-state", takes = 0, stderr = "You fail at failing." },
  { name = "09-shutdown", takes = 0.1 },
  { name = "10-timeouts", takes = 0.2, at = { 0.1 } },
  { name = "11-timeout-arguments", takes = 3, at = { 1, 2, 3 } },
  { name = "12-monkey-patching", takes = 0 },
  { name = "13-events", takes = 0.3, at = { [6] = 0, [7] = 0.3 } },
  { name = "14-async-result", takes = 0.3 },
  { name = "15-queue", takes = 0 },
  { name = "16-bounded-queue", takes = 1, at = { [40] = 0, [41] = 1 } },
  { name = "17-group", takes = 0 },
  { name = "18-group-map", takes = 6, at = { [8] = 3, [10] = 3, [12] = 4, [13] = 5, [14] = 6 } },
  { name = "19-pool", takes = 0 },
  { name = "20-socket-pool", takes = 0.1 },
  { name = "21-semaphore", takes = 0 },
  { name = "22-locals", takes = 0 },
  { name = "23-session-store", takes = 0.05 },
  { name = "24-subprocess", takes = 1, at = { 0, 0.2, 0.4, 0.6, 0.8 } },
  { name = "25-wait-read-write", takes = 0 },
  { name = "26-actors", takes = 0.05 },
  { name = "27-zeromq", takes = 0 },
  { name = "28-simple-server", takes = 0.05 },
  { name = "29-wsapi-servers", takes = 0 },
  { name = "30-long-polling", takes = 0.3 },
  { name = "31-websocket", takes = 0.4 },
  { name = "32-chat", takes = 0.6 },
}

local LATENESS = 3 -- seconds by which a busy machine may be late; nothing may ever be early
local LIMIT = 60 -- seconds after which a script is ended
local SHOWN = 50 -- lines of one script that are shown

local function quote(word)
  return "'" .. word:gsub("'", "'\\''") .. "'"
end

-- The program that runs this script, so that the scripts run in the same one.
local function interpreter()
  local i = 0
  while arg[i - 1] do
    i = i - 1
  end
  return arg[i]
end

local directory = arg[0]:match("^(.*/)") or "./"

local function read_lines(path)
  local lines = {}
  for line in io.lines(path) do
    lines[#lines + 1] = line
  end
  return lines
end

-- A script's title is its first line.
local function title_of(name)
  local lines = read_lines(directory .. name .. ".lua")
  return lines[1]:match("^%-%- (.*)")
end

-- Runs a script and calls on_line for each line as it comes. Standard output is line-buffered for
-- the sake of these times, standard error goes through a file.
local function run(name, on_line)
  local errors = os.tmpname()
  local command = ("timeout --foreground -k 5 %d %s -e %s %s </dev/null 2>%s"):format(LIMIT,
    quote(interpreter()), quote("io.stdout:setvbuf('line')"), quote(directory .. name .. ".lua"),
    quote(errors))
  local result = { lines = {}, times = {} }
  local start = gettime()
  local output = assert(io.popen(command))
  for line in output:lines() do
    table.insert(result.lines, line)
    table.insert(result.times, gettime() - start)
    on_line(line, #result.lines)
  end
  local _, how, code = output:close()
  result.elapsed = gettime() - start
  result.status = ("%s %d"):format(how, code)
  result.errors = read_lines(errors)
  os.remove(errors)
  return result
end

-- What is wrong with the output, or nil.
local function compare(name, lines, elapsed)
  local check = loadfile(directory .. name .. ".check.lua")
  if check then
    local ok, message = check(lines, elapsed)
    return not ok and message or nil
  end
  local expected = read_lines(directory .. name .. ".out")
  for i = 1, math.max(#lines, #expected) do
    if lines[i] ~= expected[i] then
      return ("line %d: expected %s, got %s"):format(i,
        expected[i] or "the end", lines[i] or "the end")
    end
  end
end

-- What is wrong with a time, or nil.
local function misses(what, seconds, expected)
  if seconds < expected or seconds > expected + LATENESS then
    return ("%s at %.3f s instead of %.2f s"):format(what, seconds, expected)
  end
end

-- Everything in which a result differs from what the table and the files say: a list of messages.
local function faults_of(script, result)
  local faults = {}
  if result.status == "exit 124" then
    faults[1] = ("still running after %d s"):format(LIMIT)
  elseif result.status ~= "exit 0" then
    faults[1] = "ended with " .. result.status
  end
  faults[#faults + 1] = compare(script.name, result.lines, result.elapsed)
  for number, seconds in ipairs(result.times) do
    local expected = script.at and script.at[number]
    faults[#faults + 1] = expected and misses("line " .. number, seconds, expected)
  end
  faults[#faults + 1] = misses("end", result.elapsed, script.takes)
  local reported = table.concat(result.errors, "\n")
  if script.stderr and not reported:find(script.stderr, 1, true) then
    faults[#faults + 1] = ("%q is missing on standard error"):format(script.stderr)
  elseif not script.stderr and reported ~= "" then
    faults[#faults + 1] = "unexpected output on standard error"
  end
  return faults
end

local function show_line(line, number)
  if number <= SHOWN then
    print("    " .. line)
  end
end

-- What went to standard error, the verdict and its reasons.
local function show_verdict(script, result, faults)
  for _, line in ipairs(result.errors) do
    print("  ! " .. line)
  end
  print(("%s %s (%.2f s)"):format(#faults == 0 and "ok" or "FAILED", script.name, result.elapsed))
  for _, fault in ipairs(faults) do
    print("  * " .. fault)
  end
end

-- Runs one script; true if all was as expected. A failure is shown even when quiet.
local function try(script, quiet)
  if not quiet then
    print(title_of(script.name))
  end
  local result = run(script.name, quiet and function() end or show_line)
  local faults = faults_of(script, result)
  if not quiet and #result.lines > SHOWN then
    print(("    ... and %d lines more"):format(#result.lines - SHOWN))
  end
  if not quiet or #faults > 0 then
    show_verdict(script, result, faults)
  end
  if not quiet then
    print()
  end
  return #faults == 0
end

-- The options given, and the scripts chosen: all of them if none was named.
local function parse_arguments()
  local quiet, wanted, chosen = false, {}, {}
  for _, word in ipairs(arg) do
    if word == "--quiet" then
      quiet = true
    else
      wanted[word] = true
    end
  end
  local all = next(wanted) == nil
  for _, script in ipairs(scripts) do
    local number = script.name:sub(1, 2)
    if all or wanted[number] then
      chosen[#chosen + 1] = script
      wanted[number] = nil
    end
  end
  local unknown = next(wanted)
  if unknown then
    io.stderr:write("run.lua: no script ", unknown, "\nusage: run.lua [--quiet] [NN ...]\n")
    os.exit(2)
  end
  return quiet, chosen
end

local function main()
  io.stdout:setvbuf("line")
  local quiet, chosen = parse_arguments()
  local failed, start = {}, gettime()
  for _, script in ipairs(chosen) do
    if not try(script, quiet) then
      failed[#failed + 1] = script.name
    end
  end
  if not quiet then
    print(("%d scripts in %.1f s"):format(#chosen, gettime() - start))
  end
  if #failed > 0 then
    print("failed: " .. table.concat(failed, ", "))
  end
  print(("%d passed, %d failed"):format(#chosen - #failed, #failed))
  return #failed == 0
end

os.exit(main(), true)
