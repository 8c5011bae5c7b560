-- 6. Spawning greenlets
-- Three ways to the same thing: the class's own spawn, the module's, and an anonymous function.
-- Arguments after the function are passed on to it; what it returns is kept in the greenlet.

local moonlet = require "moonlet"
local Greenlet = moonlet.Greenlet

local function foo(message, seconds)
  moonlet.sleep(seconds)
  print(message)
end

local greenlet1 = Greenlet.spawn(foo, "Hello", 1)
local greenlet2 = moonlet.spawn(foo, "I live!", 2)
local greenlet3 = moonlet.spawn(function(x) return x + 1 end, 2)

moonlet.joinall { greenlet1, greenlet2, greenlet3 }

assert(greenlet1.value == nil and greenlet2.value == nil and greenlet3.value == 3)
