--- Cookies of an HTTP client (RFC 6265). There is no list of public suffixes: a cookie for a whole
-- domain is taken from any host in it, but never for a name without a dot.

local Object = require "moonlet.class"

local MONTHS = { jan = 1, feb = 2, mar = 3, apr = 4, may = 5, jun = 6, jul = 7, aug = 8, sep = 9,
                 oct = 10, nov = 11, dec = 12 }

-- Days from 1970-01-01 to a date of the Gregorian calendar.
local function days_since_epoch(year, month, day)
  local y = month <= 2 and year - 1 or year
  local era = y // 400
  local of_era = y - era * 400
  local of_year = (153 * (month + (month > 2 and -3 or 9)) + 2) // 5 + day - 1
  return era * 146097 + of_era * 365 + of_era // 4 - of_era // 100 + of_year - 719468
end

-- "Wed, 21 Oct 2026 07:28:00 GMT", with dashes in old ones; nil if it is no date.
local function parse_date(text)
  local day, name, year, hour, minute, second =
    text:match("(%d+)[%s-](%a%a%a)[%s-](%d+)%s+(%d+):(%d+):(%d+)")
  local month = name and MONTHS[name:lower()]
  if not month then
    return nil
  end
  year = tonumber(year)
  year = year < 70 and year + 2000 or year < 100 and year + 1900 or year
  return days_since_epoch(year, month, tonumber(day)) * 86400 + hour * 3600 + minute * 60 + second
end

--- The cookies that a client has been given.
---@class moonlet.http.Cookies: moonlet.class.Object
local Cookies = Object:extend("Cookies")

--- An empty jar.
function Cookies:new()
  self._list = {}
end

local function in_domain(host, domain)
  return host == domain or
           host:sub(-#domain - 1) == "." .. domain and not host:find("^[%d.]+$") and
           not host:find(":", 1, true)
end

local function under_path(path, prefix)
  return path == prefix or path:sub(1, #prefix) == prefix and
           (prefix:sub(-1) == "/" or path:sub(#prefix + 1, #prefix + 1) == "/")
end

local function attributes(text)
  local found = {}
  for name, value in text:gmatch(";%s*([^=;]+)=?%s*([^;]*)") do
    found[name:lower():match("^(.-)%s*$")] = value:match("^(.-)%s*$")
  end
  return found
end

local function expiry(given)
  if given["max-age"] and given["max-age"]:match("^-?%d+$") then
    return os.time() + tonumber(given["max-age"])
  end
  return given.expires and parse_date(given.expires)
end

--- Takes what a Set-Cookie field says.
---@param parts table  of the URL that it came from (url.parse)
---@param field string
function Cookies:set(parts, field)
  local name, value = field:match("^%s*([^=;%s]+)%s*=%s*([^;]-)%s*%f[;\0]")
  if not name then
    return
  end
  local given = attributes(field)
  local domain = given.domain and given.domain:gsub("^%.", ""):lower()
  if domain == "" then
    domain = nil
  end
  if domain and (not in_domain(parts.host, domain) or
                 domain ~= parts.host and not domain:find(".", 1, true)) then
    return
  end
  local path = given.path
  if not path or path:sub(1, 1) ~= "/" then
    path = parts.path:match("^(.+)/[^/]*$") or "/"
  end
  self:_put {
    name = name, value = value, domain = domain or parts.host, host_only = not domain,
    path = path, secure = given.secure ~= nil, expires = expiry(given),
  }
end

-- One of the same name, domain and path is replaced; one that is over is gone.
function Cookies:_put(cookie)
  for place, other in ipairs(self._list) do
    if other.name == cookie.name and other.domain == cookie.domain and
       other.path == cookie.path then
      table.remove(self._list, place)
      break
    end
  end
  if not cookie.expires or cookie.expires > os.time() then
    table.insert(self._list, cookie)
  end
end

--- The Cookie field for a request.
---@param parts table  of its URL (url.parse)
---@return string|nil
function Cookies:get(parts)
  local now, found = os.time(), {}
  for place = #self._list, 1, -1 do
    local cookie = self._list[place]
    if cookie.expires and cookie.expires <= now then
      table.remove(self._list, place)
    end
  end
  for _, cookie in ipairs(self._list) do
    local matches
    if cookie.host_only then
      matches = parts.host == cookie.domain
    else
      matches = in_domain(parts.host, cookie.domain)
    end
    if matches and under_path(parts.path, cookie.path) and
       (not cookie.secure or parts.scheme == "https") then
      table.insert(found, { #cookie.path, #found, cookie.name .. "=" .. cookie.value })
    end
  end
  table.sort(found, function(a, b)
    return a[1] > b[1] or a[1] == b[1] and a[2] < b[2]
  end)
  for place, item in ipairs(found) do
    found[place] = item[3]
  end
  return #found > 0 and table.concat(found, "; ") or nil
end

return Cookies
