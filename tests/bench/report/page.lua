-- The page: Moonlet beside its peers, and how its costs grow.

local bars = require "tests.bench.report.bars"
local comparison = require "tests.bench.report.comparison"
local curves = require "tests.bench.report.curves"
local growth = require "tests.bench.report.growth"
local markup = require "tests.bench.report.markup"
local quantity = require "tests.bench.report.quantity"

-- As a heading begins.
local function capital(text)
  return markup.escape((text:gsub("^%l", string.upper)))
end

local function card(title, note, picture)
  return markup.figure {
    markup.figcaption { markup.h3 { capital(title) }, markup.p { markup.escape(note) } },
    picture,
  }
end

local function grid(cards)
  return markup.div { class = "cards", table.concat(cards) }
end

-- Where the figures of the charts come from.
local function sources(names)
  if #names == 0 then
    return "No results of other runtimes were given (RESULTS=...): Moonlet’s own benchmarks."
  end
  return ("From %s; where these have no figures of Moonlet, from its own benchmarks. Each figure "
    .. "is compared with the floor of its own run: ratios compare, times of different runs do not.")
    :format(table.concat(names, " and "))
end

local function beside(data)
  local cards = {}
  for i, chart in ipairs(comparison.charts(data.runs, data.own)) do
    local note = chart.goal and ("against %s · goal %s"):format(chart.floor,
      quantity.times(chart.goal))
    cards[i] = card(chart.title, note or "against " .. chart.floor, bars(chart))
  end
  return markup.section {
    markup.h2 { "Beside the peers" },
    markup.p { "Each bar is a ratio to the floor, the same work done by a bare loop in C ",
               "(", markup.b { "floor" }, "), or by one with a Lua coroutine for each connection (",
               markup.b { "floor-lua" }, "). Less is better; the dashed line is Moonlet’s goal. ",
               "Beside the ratio is the cost itself: CPU time for an operation or a request, or ",
               "memory." },
    markup.p { markup.escape(sources(data.names)) },
    grid(cards),
  }
end

-- A line of the table: the costs of one side at each size.
local function row(series, side, sizes)
  local values, cells = {}, {}
  for _, point in ipairs(series[side]) do
    values[point.size] = quantity.show(point.value, series.unit)
  end
  for i, size in ipairs(sizes) do
    cells[i] = markup.td { values[size] or "" }
  end
  local tenfold = growth.tenfold(series[side])
  return markup.tr {
    class = side,
    markup.th { scope = "row", side == "moonlet" and capital(series.title) or "its floor" },
    table.concat(cells),
    markup.td { tenfold and quantity.ratio(tenfold) or "" },
  }
end

local function figures(list)
  local sizes, heads, rows = growth.sizes(list), {}, {}
  for i, size in ipairs(sizes) do
    heads[i] = markup.th { scope = "col", quantity.count(size) }
  end
  for _, series in ipairs(list) do
    rows[#rows + 1] = row(series, "moonlet", sizes)
    if #series.floor > 0 then
      rows[#rows + 1] = row(series, "floor", sizes)
    end
  end
  return markup.div { class = "wide", markup.table {
    markup.thead { markup.tr { markup.th { scope = "col", "Operation" }, table.concat(heads),
                               markup.th { scope = "col", "A tenfold" } } },
    markup.tbody { table.concat(rows) },
  } }
end

local function grown(data)
  local list, cards = growth.series(data.growth), {}
  for i, series in ipairs(list) do
    local tenfold = growth.tenfold(series.moonlet)
    cards[i] = card(series.title, tenfold and quantity.ratio(tenfold) .. " a tenfold" or "",
      curves(series))
  end
  return markup.section {
    markup.h2 { "How cost grows" },
    markup.p { "The cost of one operation among so many greenlets, timers, items or connections. ",
               "“A tenfold” is what the cost is multiplied by, on the average, when their number ",
               "is multiplied by ten: 1 is flat, 10 would be in proportion to it. The floor grows ",
               "too, as the processor’s caches hold less and less of what is worked on." },
    markup.p { class = "legend", markup.span { class = "key moonlet" }, " Moonlet ",
               markup.span { class = "key floor" }, " its floor, where there is one" },
    grid(cards),
    markup.h3 { "The same in figures" },
    figures(list),
  }
end

--- The page as HTML. `data`: `own` and `growth`, rows of tsv.lua; `runs`, a list of such for all
--- peers, and their `names`; `about`, a line on the machine; `style`, a style sheet.
return function(data)
  return "<!doctype html>\n" .. markup.html {
    lang = "en",
    markup.head {
      '<meta charset="utf-8">\n',
      '<meta name="viewport" content="width=device-width, initial-scale=1">\n',
      '<meta name="color-scheme" content="light dark">\n',
      markup.title { "Moonlet: benchmarks" },
      markup.style { data.style },
    },
    markup.body {
      markup.header { markup.h1 { "Moonlet: benchmarks" }, markup.p { markup.escape(data.about) } },
      beside(data),
      #data.growth > 0 and grown(data) or "",
    },
  }
end
