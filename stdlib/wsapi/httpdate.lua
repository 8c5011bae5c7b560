-- Dates of HTTP headers: "Sun, 06 Nov 1994 08:49:37 GMT".

local httpdate = {}

function httpdate.format(time)
  return os.date("!%a, %d %b %Y %H:%M:%S GMT", time)
end

local MONTHS = { Jan = 1, Feb = 2, Mar = 3, Apr = 4, May = 5, Jun = 6, Jul = 7, Aug = 8, Sep = 9,
                 Oct = 10, Nov = 11, Dec = 12 }

-- Days since 1970 of a date of the Gregorian calendar, whose year is taken to begin in March.
local function days(year, month, day)
  if month <= 2 then
    year, month = year - 1, month + 12
  end
  return 365 * year + year // 4 - year // 100 + year // 400 + (153 * (month - 3) + 2) // 5 + day
         - 719469
end

-- Seconds since 1970, or nil for what is no such date.
function httpdate.parse(text)
  local day, name, year, hour, minute, second =
    text:match("^%a%a%a, (%d%d) (%a%a%a) (%d%d%d%d) (%d%d):(%d%d):(%d%d) GMT$")
  local month = MONTHS[name]
  if not month then
    return nil
  end
  local date = days(tonumber(year), month, tonumber(day))
  return ((date * 24 + tonumber(hour)) * 60 + tonumber(minute)) * 60 + tonumber(second)
end

return httpdate
