-- Blocking calls of C libraries.

require "moonlet" -- a plain Lua has no runtime before

return require("moonlet.callout.core").patch
