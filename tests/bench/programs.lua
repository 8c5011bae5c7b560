-- The programs that the benchmarks run: scripts of peer/, floor.c and messages.c.

local programs = { build = arg[1], moonlet = arg[1] .. "/moonlet" }

local floor = programs.build .. "/tests/bench/floor"

-- The command for a folder of peer/ and the arguments of its `run`.
function programs.peer(words)
  local folder, arguments = words:match("^(%S+)%s*(.*)$")
  return ("MOONLET=%s BENCH_FLOOR=%s tests/bench/peer/%s/moonlet/run %s"):format(
    programs.moonlet, floor, folder, arguments)
end

-- The command for a measure of floor.c; FLOOR stands for the program itself.
function programs.floor(words)
  return floor .. " " .. words:gsub("FLOOR", floor)
end

-- The command for a measure of messages.c.
function programs.messages(words)
  return ("%s/tests/bench/messages %s"):format(programs.build, words)
end

-- What a command prints.
function programs.output(command)
  local pipe = assert(io.popen(command))
  local text = pipe:read("a")
  assert(pipe:close(), "failed: " .. command)
  return text
end

return programs
