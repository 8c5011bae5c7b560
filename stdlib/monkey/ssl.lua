-- moonlet.ssl in the place of LuaSec. It is loaded when it is needed: not every build has it.

local replace = require "moonlet.monkey.replace"

local function load_ssl()
  return require "moonlet.ssl"
end

local function load_https()
  return require "moonlet.monkey.https"
end

-- Contexts and certificates of the one are nothing to the other, so that all goes together.
local function patch_loaded(name, load)
  local old = package.loaded[name]
  if type(old) == "table" then
    local makers = {}
    for field, value in pairs(load()) do
      makers[field] = replace.by(value)
    end
    replace.now(old, name, makers)
  end
end

return function()
  patch_loaded("ssl", load_ssl)
  patch_loaded("ssl.https", load_https)
  replace.module("ssl", load_ssl)
  replace.module("ssl.https", load_https)
end
