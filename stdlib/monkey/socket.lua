-- moonlet.socket in the place of LuaSocket.

local replace = require "moonlet.monkey.replace"

-- What blocks. The rest works as well as ours; above all, LuaSocket's try and protect know only
-- each other's errors, so that modules loaded with them need them both.
local SOCKET = { "tcp", "tcp4", "tcp6", "udp", "udp4", "udp6", "connect", "connect4", "connect6",
                 "bind", "select", "sleep" }
local DNS = { "toip", "tohostname", "getaddrinfo", "getnameinfo" }
local UNIX = { "stream", "tcp", "dgram", "udp" }

-- A LuaSocket that is loaded keeps working with all who have it.
local function patch_loaded(old, new)
  replace.now(old, "socket", replace.from(new, SOCKET))
  replace.now(old.dns, "socket.dns", replace.from(new.dns, DNS))
  for name, value in pairs(new) do
    if old[name] == nil then
      old[name] = value
    end
  end
  for name, value in pairs(old) do
    if new[name] == nil and package.loaded["socket." .. name] == value then
      new[name] = value
    end
  end
end

-- LuaSocket's module is its own metatable, for the sake of __call.
local function patch_unix(old, new)
  replace.now(old, "socket.unix", replace.from(new, UNIX))
  old.__call = getmetatable(new).__call
end

return function()
  local new = require "moonlet.socket"
  local old = package.loaded["socket.core"] or package.loaded.socket
  if type(old) == "table" and old ~= new then
    patch_loaded(old, new)
  end
  if type(package.loaded["socket.unix"]) == "table" then
    patch_unix(package.loaded["socket.unix"], new.unix)
  end
  replace.module("socket", replace.by(new))
  replace.module("socket.core", replace.by(new))
  replace.module("socket.unix", replace.by(new.unix))
end
