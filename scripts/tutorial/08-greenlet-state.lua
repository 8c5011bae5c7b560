-- 8. The state of a greenlet
-- An error ends only the greenlet it happens in. It is reported on standard error and kept in the
-- greenlet; whoever joins goes on undisturbed, and loser:get() would raise it again.

local moonlet = require "moonlet"

local function win()
  return "You win!"
end

local function fail()
  error("You fail at failing.", 0)
end

local winner = moonlet.spawn(win)
local loser = moonlet.spawn(fail)

print(winner.started)
print(loser.started)

moonlet.joinall { winner, loser }

print(winner.value)
print(loser.value)

print(winner:ready())
print(loser:ready())

print(winner:successful())
print(loser:successful())

print(loser.exception)
