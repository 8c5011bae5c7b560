-- Greenlets end in the same order each time; for processes there is no telling.

local lines = ...

if #lines ~= 2 then
  return nil, ("2 lines expected, got %d"):format(#lines)
end
if lines[1] ~= "Processes:\ttrue" and lines[1] ~= "Processes:\tfalse" then
  return nil, "what processes do is missing"
end
if lines[2] ~= "Greenlets:\ttrue" then
  return nil, "greenlets are not deterministic"
end
return true
