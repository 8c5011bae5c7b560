-- Loaded by busted before any spec: every `it` body runs inside a guard that bounds its time,
-- and fails it when it leaves a greenlet, timer, watcher, signal or pinned C stack behind or
-- when an error nobody caught left one of its greenlets.

local busted = require "busted"
local guard = require "support.guard"

-- Loaded here, before busted saves package.loaded, so that every spec file sees the same modules.
require "moonlet"
require "support"

local guarded = setmetatable({}, { __mode = "k" })

busted.subscribe({ "test", "start" }, function(element)
  local cleanup
  element.env.finally = function(f)
    cleanup = f
  end
  if not guarded[element.run] then
    local body = element.run
    local function run()
      local watch <close> = guard.start()
      watch:run(body, function()
        if cleanup then
          cleanup()
        end
      end)
    end
    guarded[run] = true
    element.run = run
  end
  return nil, true
end, { priority = 1 })
