-- 25. Messages through another process
-- One greenlet puts messages into a pipe, a forked child takes them out and passes them on through
-- another one, and a second greenlet gets them from there. Each waits until its own descriptor is
-- ready, and neither keeps the other from running.

local moonlet = require "moonlet"
local os = require "moonlet.os"
local socket = require "moonlet.socket"

local relay_in, put_end = assert(os.pipe())
local get_end, relay_out = assert(os.pipe())

local function relay()
  local input, output = os.File(relay_in), os.File(relay_out)
  for i = 0, 9 do
    output:write(input:read(), " in ", i, "\n")
  end
end

local function put_messages()
  for _ = 1, 10 do
    assert(socket.wait_write(put_end))
    os.write(put_end, "hi\n")
  end
end

local function get_messages()
  repeat
    assert(socket.wait_read(get_end))
    local text = os.read(get_end, 1000)
    io.write(text)
  until text == "" -- the relay has ended, and with it its end of the pipe
end

local child = assert(os.fork())
if child == 0 then
  relay()
  return
end
os.close(relay_in)
os.close(relay_out)

local ended = moonlet.joinall({ moonlet.spawn(get_messages), moonlet.spawn(put_messages) }, 1)
assert(#ended == 2)

local _, how, code = os.waitpid(child)
assert(how == "exited" and code == 0)
