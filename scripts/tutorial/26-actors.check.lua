-- start, then ping and pong in turn, more than a hundred times.

local lines = ...

if #lines <= 100 then
  return nil, ("more than 100 messages expected, got %d"):format(#lines)
end
if lines[1] ~= "start" then
  return nil, "the first message should be start"
end
for i = 2, #lines do
  local expected = i % 2 == 0 and "ping" or "pong"
  if lines[i] ~= expected then
    return nil, ("message %d should be %s, is %s"):format(i, expected, lines[i])
  end
end
return true
