-- 24. A program runs, and so does everything else
-- communicate waits until the program has written all it has to say and has ended. Only main waits
-- for that: the cron greenlet goes on all the while.

local moonlet = require "moonlet"
local subprocess = require "moonlet.subprocess"

local function cron()
  while true do
    print("cron")
    moonlet.sleep(0.2)
  end
end

local g = moonlet.spawn(cron)
local sub = subprocess.Popen { args = "sleep 1; uname", shell = true, stdout = subprocess.PIPE }
local out, err = sub:communicate()
g:kill()

assert(err == nil, "stderr was not asked for")
print((out:gsub("%s+$", "")))
