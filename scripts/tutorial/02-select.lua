-- 2. A select that blocks only its greenlet
-- Two greenlets wait in select for two seconds each, and a third one works meanwhile. The waits
-- overlap, so that the whole takes two seconds and not four.

local moonlet = require "moonlet"
local gettime = require("moonlet.socket").gettime
local select = require "moonlet.select"

local start = gettime()

local function tic()
  return ("at %.1f seconds"):format(gettime() - start)
end

local function poller()
  print("Started Polling: " .. tic())
  select.select({}, {}, {}, 2)
  print("Ended Polling: " .. tic())
end

local function busy()
  print("Hey lets do some stuff while the greenlets poll, " .. tic())
  moonlet.sleep(1)
end

moonlet.joinall { moonlet.spawn(poller), moonlet.spawn(poller), moonlet.spawn(busy) }
