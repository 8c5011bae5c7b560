-- One by one, the nine answers come in order and take nine delays; all at once they come in any
-- order, each of them once, and take one delay.

local DELAY = 0.05

local lines = ...

if #lines ~= 22 then
  return nil, ("22 lines expected, got %d"):format(#lines)
end
if lines[1] ~= "Synchronous:" or lines[12] ~= "Asynchronous:" then
  return nil, "a heading is missing"
end

-- The number in a line "Process N: T".
local function number_of(line)
  return tonumber(line:match("^Process (%d): %d%d:%d%d:%d%d$"))
end

local seen = {}
for n = 1, 9 do
  if number_of(lines[1 + n]) ~= n then
    return nil, ("line %d should be of process %d"):format(1 + n, n)
  end
  seen[number_of(lines[12 + n]) or lines[12 + n]] = true
end
for n = 1, 9 do
  if not seen[n] then
    return nil, ("process %d is missing from the asynchronous run"):format(n)
  end
end

local function seconds_of(line)
  return tonumber(line:match("^(%d+%.%d+) seconds$")) or 0
end

-- Between one delay and nine there is room for a busy machine.
local sync, async = seconds_of(lines[11]), seconds_of(lines[22])
if sync < 9 * DELAY then
  return nil, ("the synchronous run took only %.3f s"):format(sync)
end
if async < DELAY or async >= 9 * DELAY then
  return nil, ("the asynchronous run took %.3f s"):format(async)
end
return true
