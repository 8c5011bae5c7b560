-- moonlet.ssl in the place of LuaSec. It is loaded when it is needed: not every build has it.

local replace = require "moonlet.monkey.replace"

local function load_ssl()
  return require "moonlet.ssl"
end

local function load_https()
  return require "moonlet.ssl.https"
end

-- What belongs together: contexts of the one are nothing to the other.
local FIELDS = { "wrap", "newcontext", "config" }
local HTTPS_FIELDS = { "request", "tcp" }

local function patch_loaded(name, load, fields)
  local old = package.loaded[name]
  if type(old) == "table" then
    replace.now(old, name, replace.from(load(), fields))
  end
end

return function()
  patch_loaded("ssl", load_ssl, FIELDS)
  patch_loaded("ssl.https", load_https, HTTPS_FIELDS)
  replace.module("ssl", load_ssl)
  replace.module("ssl.https", load_https)
end
