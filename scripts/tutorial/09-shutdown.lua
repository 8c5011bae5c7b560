-- 9. Program shutdown
-- A signal ends a greenlet that would sleep on for a quarter of an hour: the handler runs in a
-- greenlet of its own and kills it, join returns, and the program ends. Being killed is no failure:
-- the greenlet's value is the GreenletExit it was killed with.

local moonlet = require "moonlet"

local function run_forever()
  moonlet.sleep(1000)
end

local function own_pid()
  local stat <close> = assert(io.open("/proc/self/stat"))
  return stat:read("n")
end

-- Stands in for the Ctrl-\ of somebody at the keyboard. os.execute would not do: the C library
-- ignores SIGQUIT in a process that waits in system().
local function send_sigquit()
  io.popen("kill -QUIT " .. own_pid()):close()
end

local greenlet = moonlet.spawn(run_forever)
moonlet.signal("SIGQUIT", moonlet.kill, greenlet)
moonlet.spawn_later(0.1, send_sigquit)
greenlet:join()

assert(greenlet:successful() and greenlet.value:is(moonlet.GreenletExit))
