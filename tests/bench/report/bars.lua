-- A chart of ratios to a floor: bars that begin at 1, to the left for less and to the right for
-- more, on an axis of logarithms.

local markup = require "tests.bench.report.markup"
local quantity = require "tests.bench.report.quantity"

local WIDTH, ROW, BAR = 360, 20, 12
local LEFT, RIGHT = 94, 236 -- of the bars
local RATIO, VALUE = 288, WIDTH -- where the columns of figures end
local TOP = 20 -- of the first row
local TICKS = { 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000 }
local APART = 30 -- at least, that labels do not touch

-- The x of a ratio, and the ticks between the ends of the axis.
local function axis(chart)
  local least, most = 0.8, 2
  for _, bar in ipairs(chart.bars) do
    least, most = math.min(least, bar.ratio), math.max(most, bar.ratio)
  end
  local from, to = math.log(least * 0.95), math.log(most * 1.05)
  local function x(ratio)
    return LEFT + (RIGHT - LEFT) * (math.log(ratio) - from) / (to - from)
  end
  local ticks, last = {}, -math.huge
  for _, tick in ipairs(TICKS) do
    local at = x(tick)
    local free = at - last >= APART and math.abs(at - x(1)) >= APART
    if at >= LEFT and at <= RIGHT and (free or tick == 1) then
      ticks[#ticks + 1], last = tick, at
    end
  end
  return x, ticks
end

local function grid(x, ticks, bottom)
  local parts = {}
  for _, tick in ipairs(ticks) do
    local at = x(tick)
    parts[#parts + 1] = markup.line { class = tick == 1 and "one" or "grid", x1 = at, x2 = at,
                                      y1 = TOP - 4, y2 = bottom }
    parts[#parts + 1] = markup.text { class = "tick", x = at, y = TOP - 8,
                                      ["text-anchor"] = "middle", quantity.times(tick) }
  end
  return table.concat(parts)
end

local function bar_of(bar, x, top)
  local from, to = math.min(x(1), x(bar.ratio)), math.max(x(1), x(bar.ratio))
  local ratio, value = quantity.ratio(bar.ratio), quantity.show(bar.value, bar.unit)
  local base = top + ROW / 2 + 4
  return markup.g {
    class = bar.name == "moonlet" and "bar ours" or "bar",
    markup.title { markup.escape(("%s: %s, %s the floor"):format(bar.name, value, ratio)) },
    markup.rect { class = "row", x = 0, y = top, width = WIDTH, height = ROW },
    markup.text { x = 0, y = base, markup.escape(bar.name) },
    markup.rect { class = "mark", x = from, y = top + (ROW - BAR) / 2, rx = 2,
                  width = math.max(to - from, 1.5), height = BAR },
    markup.text { x = RATIO, y = base, ["text-anchor"] = "end", ratio },
    markup.text { class = "value", x = VALUE, y = base, ["text-anchor"] = "end", value },
  }
end

local function goal_line(goal, x, bottom)
  return markup.line { class = "goal", x1 = x(goal), x2 = x(goal), y1 = TOP - 4, y2 = bottom }
end

--- The SVG of a chart of comparison.lua.
return function(chart)
  local x, ticks = axis(chart)
  local bottom = TOP + #chart.bars * ROW
  local rows = {}
  for i, bar in ipairs(chart.bars) do
    rows[i] = bar_of(bar, x, TOP + (i - 1) * ROW)
  end
  return markup.svg {
    viewBox = ("0 0 %d %d"):format(WIDTH, bottom + 4), role = "img",
    ["aria-label"] = chart.title .. ", as ratios to the floor",
    grid(x, ticks, bottom), table.concat(rows),
    chart.goal and goal_line(chart.goal, x, bottom) or "",
  }
end
