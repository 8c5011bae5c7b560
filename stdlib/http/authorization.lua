-- Basic authorization (RFC 7617).

local url = require "moonlet.http.url"

local authorization = {}

local DIGITS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"

local function base64(text)
  local padding = -#text % 3
  local digits = (text .. ("\0"):rep(padding)):gsub("...", function(three)
    local bits, out = string.unpack(">I3", three), {}
    for i = 1, 4 do
      local place = (bits >> (24 - 6 * i) & 63) + 1
      out[i] = DIGITS:sub(place, place)
    end
    return table.concat(out)
  end)
  return digits:sub(1, #digits - padding) .. ("="):rep(padding)
end

-- The field's value for "user:password" as it stands in a URL; nil for nil.
function authorization.basic(user)
  if not user then
    return nil
  end
  return "Basic " .. base64(url.unescape(user:find(":", 1, true) and user or user .. ":"))
end

return authorization
