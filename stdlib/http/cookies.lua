-- Cookies of an HTTP client (RFC 6265).

local Object = require "moonlet.class"

local MAX_SIZE = 4096 -- bytes of a name with its value
local MAX_OF_DOMAIN = 50
local MAX_COUNT = 3000

-- ---- dates ----

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

-- A number's first digits; nil if there are too few or too many.
local function number(token, least, most)
  local digits = token:match("^%d+")
  return digits and #digits >= least and #digits <= most and math.tointeger(tonumber(digits)) or nil
end

-- The parts may stand in any order (RFC 6265 5.1.1).
local function find_date_parts(text)
  local date = {}
  for token in text:gmatch("[%w:\128-\255]+") do
    local hour, minute, second = token:match("^(%d%d?):(%d%d?):(%d%d?)%f[%D]")
    if hour and not date.hour then
      date.hour, date.minute, date.second = tonumber(hour), tonumber(minute), tonumber(second)
    elseif not date.day and number(token, 1, 2) then
      date.day = number(token, 1, 2)
    elseif not date.month and MONTHS[token:sub(1, 3):lower()] then
      date.month = MONTHS[token:sub(1, 3):lower()]
    elseif not date.year and number(token, 2, 4) then
      date.year = number(token, 2, 4)
    end
  end
  return date
end

-- Seconds since the epoch; nil if it is no date.
local function parse_date(text)
  local date = find_date_parts(text)
  local year = date.year
  if not (date.hour and date.day and date.month and year) then
    return nil
  end
  year = year < 70 and year + 2000 or year < 100 and year + 1900 or year
  if date.day < 1 or date.day > 31 or year < 1601 or date.hour > 23 or date.minute > 59 or
     date.second > 59 then
    return nil
  end
  return days_since_epoch(year, date.month, date.day) * 86400 + date.hour * 3600 +
           date.minute * 60 + date.second
end

-- ---- matching ----

local function is_address(host)
  return host:find("^[%d.]+$") or host:find(":", 1, true)
end

local function in_domain(host, domain)
  return host == domain or host:sub(-#domain - 1) == "." .. domain and not is_address(host)
end

local function under_path(path, prefix)
  return path == prefix or path:sub(1, #prefix) == prefix and
           (prefix:sub(-1) == "/" or path:sub(#prefix + 1, #prefix + 1) == "/")
end

local function applies(cookie, parts)
  local at_home = cookie.host_only and parts.host == cookie.domain or
                    not cookie.host_only and in_domain(parts.host, cookie.domain)
  return at_home and under_path(parts.path, cookie.path) and
           (not cookie.secure or parts.scheme == "https")
end

-- ---- Set-Cookie ----

local function trim(text)
  return text:match("^%s*(.-)%s*$")
end

-- Of an attribute that is there twice the last one counts.
local function parse_attributes(text)
  local found = {}
  for attribute in text:gmatch("[^;]+") do
    local name, value = attribute:match("^([^=]*)=?(.*)$")
    found[trim(name):lower()] = trim(value)
  end
  return found
end

local function parse_pair(text)
  local name, value = text:match("^([^=]*)=(.*)$")
  name, value = name and trim(name), value and trim(value)
  if not name or name == "" or #name + #value > MAX_SIZE then
    return nil
  end
  return name, value
end

local function expiry(given)
  local age = given["max-age"]
  if age and age:find("^-?%d+$") then
    return os.time() + tonumber(age)
  end
  return given.expires and parse_date(given.expires)
end

-- The domain that it is for, and whether it is for that host only; nil if it may not be set.
local function choose_domain(given, host)
  local domain = given.domain and given.domain:gsub("^%.", ""):lower() or ""
  if domain == "" or domain == host then
    return host, domain == "" or is_address(host) ~= nil or not host:find(".", 1, true)
  elseif in_domain(host, domain) and domain:find(".", 1, true) then
    return domain, false
  end
end

-- What a name with a prefix promises has to be true.
local function keeps_promise(cookie, given)
  if cookie.name:find("^__Host%-") then
    return cookie.secure and not given.domain and cookie.path == "/"
  end
  return cookie.secure or not cookie.name:find("^__Secure%-")
end

local function parse(parts, field)
  local pair, rest = field:match("^([^;]*);?(.*)$")
  local name, value = parse_pair(pair)
  if not name then
    return nil
  end
  local given = parse_attributes(rest)
  local domain, host_only = choose_domain(given, parts.host)
  local path = given.path
  if not path or path:sub(1, 1) ~= "/" then
    path = parts.path:match("^(.+)/[^/]*$") or "/"
  end
  local cookie = {
    name = name, value = value, domain = domain, host_only = host_only, path = path,
    secure = given.secure ~= nil, expires = expiry(given),
  }
  local may_be_set = domain and (not cookie.secure or parts.scheme == "https") and
                       keeps_promise(cookie, given)
  return may_be_set and cookie or nil
end

-- ---- the jar ----

--- The cookies that a client has been given. There is no list of public suffixes: a cookie for a
-- whole domain is taken from any host in it, but never for a name without a dot.
---@class moonlet.http.Cookies: moonlet.class.Object
---@overload fun(): moonlet.http.Cookies
-- Source: RFC 6265.
local Cookies = Object:extend("Cookies")

--- An empty jar.
function Cookies:new()
  self._list = {} -- the oldest first
end

-- Its place, or nil; and how many of the same domain there are, and the first of them.
local function find(list, cookie)
  local place, count, oldest = nil, 0, nil
  for i, other in ipairs(list) do
    if other.domain == cookie.domain then
      count, oldest = count + 1, oldest or i
      if other.name == cookie.name and other.path == cookie.path then
        place = i
      end
    end
  end
  return place, count, oldest
end

-- One of the same name, domain and path is replaced, at its place; one that is over is gone.
local function put(list, cookie)
  local place, count, oldest = find(list, cookie)
  local over = cookie.expires and cookie.expires <= os.time()
  if place and over then
    table.remove(list, place)
  elseif place then
    list[place] = cookie
  elseif not over then
    if count >= MAX_OF_DOMAIN or #list >= MAX_COUNT then
      table.remove(list, count >= MAX_OF_DOMAIN and oldest or 1)
    end
    list[#list + 1] = cookie
  end
end

--- Takes what a field Set-Cookie says, unless a cookie must not be set like that.
---@param parts table  of the URL that it came from: `scheme`, `host`, `path`
---@param field string
function Cookies:set(parts, field)
  local cookie = parse(parts, field)
  if cookie then
    put(self._list, cookie)
  end
end

local function drop_old(list)
  local now = os.time()
  for place = #list, 1, -1 do
    local expires = list[place].expires
    if expires and expires <= now then
      table.remove(list, place)
    end
  end
end

--- The field Cookie for a request: longer paths first, then older cookies.
---@param parts table  of its URL: `scheme`, `host`, `path`
---@return string|nil
function Cookies:get(parts)
  local found = {}
  drop_old(self._list)
  for place, cookie in ipairs(self._list) do
    if applies(cookie, parts) then
      found[#found + 1] = { place = place, cookie = cookie }
    end
  end
  table.sort(found, function(a, b)
    local first, second = #a.cookie.path, #b.cookie.path
    return first > second or first == second and a.place < b.place
  end)
  for i, item in ipairs(found) do
    found[i] = item.cookie.name .. "=" .. item.cookie.value
  end
  return #found > 0 and table.concat(found, "; ") or nil
end

--- Forgets them all.
function Cookies:clear()
  self._list = {}
end

function Cookies:__len()
  return #self._list
end

function Cookies:__tostring()
  return ("<Cookies: %d>"):format(#self._list)
end

return Cookies
