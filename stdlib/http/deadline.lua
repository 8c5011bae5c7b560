-- Points in time on moonlet.now()'s clock, at which a call or a phase of it has to be over; nil is
-- never.

local moonlet = require "moonlet"

local now = moonlet.now

local deadline = {}

-- So many seconds from now on.
function deadline.after(seconds)
  return seconds and now() + seconds
end

-- The seconds that are left, 0 at least.
function deadline.rest(due)
  return due and math.max(due - now(), 0)
end

-- The one that comes first.
function deadline.sooner(a, b)
  return a and b and math.min(a, b) or a or b
end

return deadline
