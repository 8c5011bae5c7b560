-- What a name stands for changes when it is patched, and at no other time.

local lines = ...

local NAMES = { "socket.select", "socket.tcp" }
local CHANGES = { 3, 4 } -- the time, of four, at which each has changed

if #lines ~= 8 then
  return nil, ("8 lines expected, got %d"):format(#lines)
end

local before = {}
for number, line in ipairs(lines) do
  local which, time = (number - 1) % 2 + 1, (number + 1) // 2
  local name, shown = line:match("\t(socket%.%a+)\t(function: .+)$")
  if name ~= NAMES[which] then
    return nil, ("line %d: %s expected"):format(number, NAMES[which])
  elseif time > 1 and (shown ~= before[name]) ~= (time == CHANGES[which]) then
    return nil, ("line %d: should %shave changed"):format(
      number, time == CHANGES[which] and "" or "not ")
  end
  before[name] = shown
end
return true
