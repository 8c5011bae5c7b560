-- Three greetings from three greenlets, then the results in both orders.

local lines = ...

local results = {
  "Ordered", "('task', 0)", "('task', 1)", "('task', 2)",
  "Unordered", "('task', 2)", "('task', 1)", "('task', 0)",
}
if #lines ~= 6 + #results then
  return nil, ("%d lines expected, got %d"):format(6 + #results, #lines)
end

local seen = {}
for i = 1, 5, 2 do
  local id = lines[i + 1]:match("^Hello from Greenlet (%w+)$")
  if lines[i] ~= "Size of group 3" or not id or seen[id] then
    return nil, ("lines %d and %d should be the greeting of another greenlet"):format(i, i + 1)
  end
  seen[id] = true
end
for i, expected in ipairs(results) do
  if lines[6 + i] ~= expected then
    return nil, ("line %d should be %q"):format(6 + i, expected)
  end
end
return true
