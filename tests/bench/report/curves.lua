-- A plot of cost against size, both on axes of logarithms with decades of the same kind in all
-- plots, so that a flat line is flat and one in proportion rises by a decade for each.

local markup = require "tests.bench.report.markup"
local quantity = require "tests.bench.report.quantity"

local WIDTH, HEIGHT = 360, 190
local LEFT, RIGHT, TOP, BOTTOM = 52, 346, 10, 166
local FIRST, LAST = 1, 6 -- the decades of sizes
local DECADES = 3 -- of costs, at least

local function log10(value)
  return math.log(value, 10)
end

local function x(size)
  return LEFT + (RIGHT - LEFT) * (log10(size) - FIRST) / (LAST - FIRST)
end

-- The decades of all values: the lowest and the highest.
local function decades(series)
  local least, most = math.huge, -math.huge
  for _, side in ipairs { "moonlet", "floor" } do
    for _, point in ipairs(series[side]) do
      least, most = math.min(least, point.value), math.max(most, point.value)
    end
  end
  local low, high = math.floor(log10(least)), math.ceil(log10(most))
  while high - low < DECADES do -- the curve stays near the middle
    if log10(least) - low < high - log10(most) then
      low = low - 1
    else
      high = high + 1
    end
  end
  return low, high
end

local function grid(low, high, y, unit)
  local parts = {}
  for decade = low, high do
    local at = y(10.0 ^ decade)
    parts[#parts + 1] = markup.line { class = "grid", x1 = LEFT, x2 = RIGHT, y1 = at, y2 = at }
    parts[#parts + 1] = markup.text { class = "tick", x = LEFT - 6, y = at + 4,
                                      ["text-anchor"] = "end",
                                      quantity.show(10.0 ^ decade, unit) }
  end
  for decade = FIRST, LAST do
    local at = x(10.0 ^ decade)
    parts[#parts + 1] = markup.line { class = "grid", x1 = at, x2 = at, y1 = TOP, y2 = BOTTOM }
    parts[#parts + 1] = markup.text { class = "tick", x = at, y = BOTTOM + 16,
                                      ["text-anchor"] = "middle",
                                      quantity.power(math.tointeger(10 ^ decade)) }
  end
  return table.concat(parts)
end

local function curve(points, y, unit, name)
  local line, marks = {}, {}
  for i, point in ipairs(points) do
    local cx, cy = x(point.size), y(point.value)
    line[i] = ("%.1f,%.1f"):format(cx, cy)
    marks[i] = markup.circle {
      cx = cx, cy = cy, r = 4,
      markup.title { ("%s, %s: %s"):format(name, quantity.count(point.size),
        quantity.show(point.value, unit)) },
    }
  end
  return markup.g { class = "curve " .. name, markup.polyline { points = table.concat(line, " ") },
                    table.concat(marks) }
end

--- The SVG of one of growth.series.
return function(series)
  local low, high = decades(series)
  local function y(value)
    return BOTTOM - (BOTTOM - TOP) * (log10(value) - low) / (high - low)
  end
  return markup.svg {
    viewBox = ("0 0 %d %d"):format(WIDTH, HEIGHT), role = "img",
    ["aria-label"] = series.title .. ": cost against size",
    grid(low, high, y, series.unit),
    #series.floor > 0 and curve(series.floor, y, series.unit, "floor") or "",
    curve(series.moonlet, y, series.unit, "moonlet"),
  }
end
