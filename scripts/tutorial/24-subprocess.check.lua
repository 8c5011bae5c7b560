-- Cron speaks at least five times in the second that the program sleeps, all before the last line.

local lines = ...

for n = 1, #lines - 1 do
  if lines[n] ~= "cron" then
    return nil, ("line %d should be cron, not %q"):format(n, lines[n])
  end
end
if #lines < 6 then
  return nil, ("cron spoke %d times only"):format(#lines - 1)
end
if lines[#lines] ~= "Linux" then
  return nil, ("the last line should be Linux, not %q"):format(lines[#lines] or "")
end
return true
