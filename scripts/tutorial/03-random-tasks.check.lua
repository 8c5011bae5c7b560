-- The first ten tasks end in order, the second ten in any order, each of them once.

local lines = ...

if #lines ~= 22 then
  return nil, ("22 lines expected, got %d"):format(#lines)
end
if lines[1] ~= "Synchronous:" or lines[12] ~= "Asynchronous:" then
  return nil, "a heading is missing"
end

local seen = {}
for n = 0, 9 do
  local expected = ("Task %d done"):format(n)
  if lines[2 + n] ~= expected then
    return nil, ("line %d should be %q"):format(2 + n, expected)
  end
  seen[lines[13 + n]] = true
end
for n = 0, 9 do
  if not seen[("Task %d done"):format(n)] then
    return nil, ("task %d is missing from the asynchronous run"):format(n)
  end
end
return true
