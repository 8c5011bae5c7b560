-- Programs that are run, and functions that sleep.

local moonlet = require "moonlet"
local moonlet_os = require "moonlet.os"
local replace = require "moonlet.monkey.replace"

-- ---- sleeping ----

-- The old functions check the arguments and say what comes of a sleep, of no time.

local function make_sleep(old)
  return function(seconds, ...)
    if type(seconds) == "number" then
      moonlet.sleep(seconds)
      return old(0, ...)
    end
    return old(seconds, ...)
  end
end

-- luaposix has it with a table in posix.time, with two numbers in older versions of posix.
local function make_nanosleep(old)
  return function(seconds, nanoseconds, ...)
    if type(seconds) == "table" then
      moonlet.sleep((seconds.tv_sec or 0) + (seconds.tv_nsec or 0) / 1e9)
      return old({ tv_sec = 0, tv_nsec = 0 }, nanoseconds, ...)
    elseif type(seconds) == "number" and type(nanoseconds) == "number" then
      moonlet.sleep(seconds + nanoseconds / 1e9)
      return old(0, 0, ...)
    end
    return old(seconds, nanoseconds, ...)
  end
end

return function()
  require "moonlet.monkey.files" -- what popen returns is one
  replace.fields("os", { execute = replace.by(moonlet_os.execute) })
  replace.fields("io", { popen = replace.by(moonlet_os.popen) })
  local sleeps = { sleep = make_sleep }
  replace.fields("socket", { sleep = replace.by(require("moonlet.socket").sleep) })
  replace.fields("system", sleeps)
  replace.fields("posix.unistd", sleeps)
  replace.fields("posix.time", { nanosleep = make_nanosleep })
  replace.fields("posix", { sleep = make_sleep, nanosleep = make_nanosleep })
end
