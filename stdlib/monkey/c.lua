-- Blocking calls of C libraries.

return require("moonlet.callout.core").patch
