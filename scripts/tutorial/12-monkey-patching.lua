-- 12. Monkey patching
-- Patching puts other functions in the place of those that block, in modules that are loaded too:
-- the names stay, what they stand for changes. A program normally patches before anything else.

local monkey = require "moonlet.monkey"
local socket = require "socket"

local function show(when)
  print(when, "socket.select", socket.select)
  print(when, "socket.tcp", socket.tcp)
end

show("before")
show("still")

monkey.patch_select()
show("select patched")

monkey.patch_socket()
show("socket patched")
