-- Other programs as the peer of a spec: they run beside it, and what they print is in a file.

local support = require "support"

local peer = {}

local Peer = {}
Peer.__index = Peer

--- Starts a shell command, which is ended after 20 seconds.
function peer.start(command)
  local self = setmetatable({ path = os.tmpname() }, Peer)
  local script = os.tmpname()
  local file <close> = assert(io.open(script, "w"))
  file:write(command, "\n")
  file:close()
  assert(os.execute(("{ timeout -k 1 20 sh %s; echo \"exit $?\"; } >%s 2>&1 </dev/null &")
    :format(script, self.path)))
  self.script = script
  return self
end

local function start_code(command, code, ...)
  local script = os.tmpname()
  local file <close> = assert(io.open(script, "w"))
  file:write(code)
  file:close()
  local words = { command, script }
  for _, word in ipairs { ... } do
    words[#words + 1] = "'" .. word .. "'"
  end
  local self = peer.start(table.concat(words, " "))
  self.code = script
  return self
end

--- Starts Lua code under the plain lua5.4, with arguments.
function peer.lua(code, ...)
  return start_code("unset LUA_PATH LUA_CPATH; lua5.4", code, ...)
end

--- Starts Lua code under the program that runs the spec, with arguments.
function peer.script(code, ...)
  return start_code("'" .. support.interpreter .. "'", code, ...)
end

--- Starts Python code under the system's own Python, which has its packages, with arguments.
function peer.python(code, ...)
  return start_code("/usr/bin/python3 -u", code, ...)
end

--- What it has printed so far.
function Peer:output()
  local file <close> = assert(io.open(self.path))
  return file:read("a")
end

--- Waits until it has printed something that matches; returns the captures.
function Peer:expect(pattern)
  local found
  support.eventually(function()
    found = table.pack(self:output():match(pattern))
    return found[1]
  end)
  return table.unpack(found, 1, found.n)
end

--- Waits for its end; returns its exit status and all it has printed.
function Peer:finish()
  local status = tonumber(self:expect("exit (%d+)\n$"))
  return status, self:output()
end

function Peer:__close()
  self:finish()
  for _, path in ipairs { self.path, self.script, self.code } do
    os.remove(path)
  end
end

return peer
