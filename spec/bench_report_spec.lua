-- The report of the benchmarks, made from figures that nobody had to wait for.

package.path = "./?.lua;" .. package.path

local comparison = require "tests.bench.report.comparison"
local growth = require "tests.bench.report.growth"
local page = require "tests.bench.report.page"
local quantity = require "tests.bench.report.quantity"
local tsv = require "tests.bench.report.tsv"

local RESULTS = tsv.parse [[
measure	peer	median	min	max	unit	runs	ratio_to_floor	foreign_cpu
M1.ring2.switch	floor	50	48	52	ns	5	1.00	0.00
M1.ring2.switch	go	75	70	80	ns	5	1.50	0.00
M1.ring2.switch	gevent	3000	2900	3100	ns	5	60.00	0.00
M1.ring2.switch	moonlet	60	58	61	ns	5	1.20	0.00
M2.all.spawn	floor	1000	900	1100	ns	5	1.00	0.00
M2.all.spawn	<slow> & "odd"	2000	1900	2100	ns	5	2.00	0.00
M6.c1_64.srv_us_per_req	floor	10	9	11	us	5	1.00	0.00
M6.c1_64.srv_us_per_req	floor-lua	20	19	21	us	5	2.00	0.00
M6.c1_64.srv_us_per_req	moonlet	22	21	23	us	5	2.20	0.00
M6.c1_64.rps	moonlet	40000	39000	41000	req/s	5	1.00	0.00
]]

local OWN = tsv.parse [[
measure	moonlet	floor	ratio	unit	min	max	floor_min	floor_max
switch, ring of 2	48	40	1.2	ns	47	49	39	41
spawn and end, 100,000 at once	600	750	0.8	ns	590	610	740	760
start of the interpreter	1.2	0.8	1.5	ms	1.1	1.3	0.7	0.9
]]

local GROWTH = tsv.parse [[
title	size	side	median	min	max	unit
switch	10	moonlet	50	49	51	ns
switch	1000	moonlet	55	54	56	ns
switch	1000	floor	40	39	41	ns
switch	1000000	moonlet	80	80	80	ns
switch	1000000	floor	100	100	100	ns
memory of a pinned greenlet	1000	moonlet	10117	10110	10120	bytes
]]

local function render(changes)
  local data = { runs = {}, names = {}, own = OWN, growth = GROWTH, about = "a machine",
                 style = "body {}" }
  for key, value in pairs(changes) do
    data[key] = value
  end
  return page(data)
end

-- Names and ratios of the bars of a chart.
local function bars(charts, title)
  for _, chart in ipairs(charts) do
    if chart.title == title then
      local list = {}
      for i, bar in ipairs(chart.bars) do
        list[i] = ("%s %.2f"):format(bar.name, bar.ratio)
      end
      return list
    end
  end
end

-- Checks that elements are closed in the order in which they were opened.
local function assert_balanced(html)
  local open, void = {}, { meta = true, ["!doctype"] = true }
  for slash, name in html:gmatch("<(/?)([%w!]+)[^>]*>") do
    if slash == "/" then
      assert.equal(name, table.remove(open))
    elseif not void[name] then
      table.insert(open, name)
    end
  end
  assert.same({}, open)
end

local function count(text, pattern)
  return select(2, text:gsub(pattern, ""))
end

describe("the charts of Moonlet beside its peers", function()
  it("have ratios to the floor, the least first", function()
    local charts = comparison.charts({ RESULTS }, {})
    assert.same({ "moonlet 1.20", "go 1.50", "gevent 60.00" }, bars(charts, "Switch, 2 in a ring"))
  end)

  it("compare servers with a floor that has a coroutine for each connection", function()
    local charts = comparison.charts({ RESULTS }, {})
    assert.same({ "moonlet 1.10" }, bars(charts, "Echo of 64 B, 1 connection"))
  end)

  it("have Moonlet's own figures where the results have none", function()
    local charts = comparison.charts({ RESULTS }, OWN)
    assert.same({ "moonlet 0.80", '<slow> & "odd" 2.00' },
      bars(charts, "Spawn and end, 100,000 at once"))
    assert.same({ "moonlet 1.50" }, bars(charts, "Start of the interpreter"))
    assert.equal("moonlet 1.20", bars(charts, "Switch, 2 in a ring")[1])
  end)

  it("know the benchmarks by the titles that these have", function()
    local file <close> = assert(io.open("tests/bench/times.lua"))
    local text = file:read("a")
    for _, title in ipairs(comparison.own_titles()) do
      assert.truthy(text:find(('"%s"'):format(title), 1, true), title)
    end
  end)

  it("have the later of several runs, each against the floor of its own", function()
    local later = tsv.parse "measure\tpeer\tmedian\tunit\n"
    for _, row in ipairs { { "floor", 10 }, { "go", 30 }, { "lua", 20 } } do
      table.insert(later, { measure = "M1.ring2.switch", peer = row[1], median = row[2],
                            unit = "ns" })
    end
    local charts = comparison.charts({ RESULTS, later }, {})
    assert.same({ "moonlet 1.20", "lua 2.00", "go 3.00", "gevent 60.00" },
      bars(charts, "Switch, 2 in a ring"))
  end)

  it("leave out what has no floor, and measures that nobody has", function()
    local alone = { { measure = "M1.ring2.switch", peer = "go", median = 1, unit = "ns" } }
    assert.same({}, comparison.charts({ alone }, {}))
  end)
end)

describe("growth", function()
  it("is a factor for each tenfold of the size", function()
    assert.near(1, growth.tenfold { { size = 10, value = 5 }, { size = 1000, value = 5 } }, 1e-9)
    assert.near(10, growth.tenfold { { size = 10, value = 5 }, { size = 1000, value = 500 } }, 1e-9)
    assert.is_nil(growth.tenfold { { size = 10, value = 5 } })
    assert.is_nil(growth.tenfold {})
  end)

  it("has all sizes of all measures in order", function()
    assert.same({ 10, 1000, 1000000 }, growth.sizes(growth.series(GROWTH)))
  end)
end)

describe("a quantity", function()
  it("has three digits and the unit that suits", function()
    assert.equal("48.3 ns", quantity.show(48.3, "ns"))
    assert.equal("1.02 µs", quantity.show(1016.8, "ns"))
    assert.equal("3.2 µs", quantity.show(3.2, "us"))
    assert.equal("1 µs", quantity.show(999.9, "ns"))
    assert.equal("0.25 ns", quantity.show(0.25, "ns"))
    assert.equal("1.56 kB", quantity.show(1560, "bytes"))
    assert.equal("0 B", quantity.show(0, "bytes"))
    assert.equal("40000 req/s", quantity.show(40000, "req/s"))
    assert.equal("1,000,000", quantity.count(1000000))
    assert.equal("100", quantity.count(100))
    assert.equal("100", quantity.power(100))
    assert.equal("10k", quantity.power(10000))
    assert.equal("1M", quantity.power(1000000))
  end)
end)

describe("the page", function()
  it("has a bar for each runtime, a curve for each side and a line in the table", function()
    local html = render { runs = { RESULTS }, names = { "results.tsv" } }
    assert_balanced(html)
    assert.equal(4, count(html, 'class="bar ours"'))
    assert.equal(3, count(html, 'class="bar"'))
    assert.equal(2, count(html, 'class="curve moonlet"'))
    assert.equal(1, count(html, 'class="curve floor"'))
    assert.equal(3, count(html, '<tr class="'))
    assert.truthy(html:find("results.tsv", 1, true))
    assert.truthy(html:find("go: 75 ns, 1.50× the floor", 1, true))
    assert.truthy(html:find("moonlet, 1,000,000: 80 ns", 1, true))
    assert.falsy(html:find "nan")
    assert.falsy(html:find "inf")
  end)

  it("needs nothing but itself", function()
    local html = render { runs = { RESULTS }, names = { "results.tsv" } }
    assert.falsy(html:find "<script")
    assert.falsy(html:find "https?:")
    assert.falsy(html:find "<link")
  end)

  it("escapes what is not its own", function()
    local html = render { runs = { RESULTS }, names = { "<r>" } }
    assert.truthy(html:find("&lt;slow&gt; &amp; &quot;odd&quot;", 1, true))
    assert.falsy(html:find("<slow>", 1, true))
    assert.falsy(html:find("<r>", 1, true))
  end)

  it("says so if there are no results of others", function()
    local html = render {}
    assert_balanced(html)
    assert.truthy(html:find("No results of other runtimes", 1, true))
    assert.equal(3, count(html, 'class="bar ours"'))
  end)

  it("does without figures of growth", function()
    local html = render { growth = {} }
    assert_balanced(html)
    assert.falsy(html:find "polyline")
  end)
end)
