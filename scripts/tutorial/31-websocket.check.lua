-- Five messages: x counts from 0, y is from 1 to 5; then the server notices that the client left.

local lines = ...

for i = 1, 5 do
  local x, y = (lines[i] or ""):match('^{"x": (%d+), "y": ([1-5])}$')
  if tonumber(x) ~= i - 1 or not y then
    return nil, ("message %d is %s"):format(i, lines[i])
  end
end
local sent = (lines[6] or ""):match("^The client has left after (%d+) messages%.$")
if not sent or tonumber(sent) < 5 or #lines ~= 6 then
  return nil, ("the last line is %s"):format(lines[#lines])
end
return true
