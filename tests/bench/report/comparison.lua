-- Moonlet beside its peers: each measure as ratios to its floor.

local comparison = {}

-- key: a measure of the results of all peers; ours: the same in what `make bench` writes; floor:
-- the peer to compare with, if that is not "floor"; goal: the ratio that Moonlet is to reach.
local measures = {
  { "M1.ring2.switch", "Switch, 2 in a ring", ours = "switch, ring of 2", goal = 1.25 },
  { "M1.ring1000.switch", "Switch, 1,000 in a ring", ours = "switch, ring of 1,000", goal = 1.25 },
  { "M2.all.spawn", "Spawn and end, 100,000 at once", ours = "spawn and end, 100,000 at once",
    goal = 0.8 },
  { "M2.batch.spawn", "Spawn and end, 100 at a time", ours = "spawn and end, 100 at a time",
    goal = 0.5 },
  { "M3.park.mem_each", "Memory of one that sleeps", ours = "memory of a parked greenlet",
    goal = 1.3 },
  { "M3.park.create_each", "Create it", ours = "create and park it", goal = 1.2 },
  { "M3.park.wake_each", "Wake and end it", ours = "wake and end it", goal = 1.5 },
  { "M4.unbounded.item", "Queue item, unbounded", ours = "queue item, unbounded", goal = 1 },
  { "M4.max100.item", "Queue item, 100 at most", ours = "queue item, 100 at most", goal = 1.2 },
  { "M4.max1.item", "Queue item, 1 at most", ours = "queue item, 1 at most", goal = 1.2 },
  { "M4.max1_timed_get.item", "Queue item, 1 at most, timed",
    ours = "  and each get with a timeout", goal = 1.5 },
  { "M5.sleepers.sleeper", "Sleep, 100,000 at once", ours = "sleep, 100,000 at once", goal = 1.3 },
  { "M5.cancel.cancel", "Timeout, started, cancelled", ours = "Timeout, started and cancelled",
    goal = 2 },
  { "M6.c1_64.srv_us_per_req", "Echo of 64 B, 1 connection", floor = "floor-lua", goal = 1.15 },
  { "M6.c100_64.srv_us_per_req", "Echo of 64 B, 100 connections", floor = "floor-lua",
    goal = 1.15 },
  { "M6.c1000_64.srv_us_per_req", "Echo of 64 B, 1,000 connections", floor = "floor-lua",
    goal = 1.15 },
  { "M6.c1_16k.srv_us_per_req", "Echo of 16 KiB, 1 connection", floor = "floor-lua", goal = 1.15 },
  { "M6.c100_16k.srv_us_per_req", "Echo of 16 KiB, 100 connections", floor = "floor-lua",
    goal = 1.15 },
  { "M6.c1000_16k.srv_us_per_req", "Echo of 16 KiB, 1,000 connections", floor = "floor-lua",
    goal = 1.15 },
  { "M7.wrk_keep_c1.srv_us_per_req", "HTTP, 1 connection", floor = "floor-lua", goal = 1.3 },
  { "M7.wrk_keep_c100.srv_us_per_req", "HTTP, 100 connections", floor = "floor-lua", goal = 1.3 },
  { "M7.wrk_close_c100.srv_us_per_req", "HTTP, a connection a request", floor = "floor-lua",
    goal = 1.3 },
  { "M8.echo.rss_per_conn", "Memory of an idle echo", floor = "floor-lua", goal = 2 },
  { "M8.http.rss_per_conn", "Memory of an idle HTTP client", floor = "floor-lua", goal = 2 },
  { "M9.start.start_cpu", "Start of the interpreter", ours = "start of the interpreter" },
}

-- Variants that say no more, and what is no runtime of green threads.
local HIDDEN = { ["gevent-raw"] = true, ["gevent-pywsgi"] = true, ["nginx-static"] = true }

local function shown(peer)
  return not HIDDEN[peer] and not peer:find("^floor")
end

-- Bars by peer for each measure of a run of all peers: a ratio to each of the measure's floors, and
-- the value that it stands for. They take the place of those that are there.
local function add_run(charts, run)
  local floors = {}
  for _, row in ipairs(run) do
    floors[row.measure .. " " .. row.peer] = row.median
  end
  for _, row in ipairs(run) do
    local chart = charts[row.measure]
    local least = chart and floors[row.measure .. " " .. chart.floor] or 0
    if chart and shown(row.peer) and least > 0 and row.median > 0 then
      chart.bars[row.peer] = { name = row.peer, ratio = row.median / least, value = row.median,
                               unit = row.unit }
    end
  end
end

-- Moonlet's bars from its own benchmarks, where no run has one.
local function add_own(charts, own)
  local rows = {}
  for _, row in ipairs(own) do
    rows[row.measure] = row
  end
  for _, measure in ipairs(measures) do
    local found, row = charts[measure[1]].bars, rows[measure.ours]
    if row and not found.moonlet then
      found.moonlet = { name = "moonlet", ratio = row.ratio, value = row.moonlet, unit = row.unit }
    end
  end
end

-- From the least ratio on.
local function sorted(found)
  local list = {}
  for _, bar in pairs(found) do
    list[#list + 1] = bar
  end
  table.sort(list, function(a, b)
    return a.ratio < b.ratio or a.ratio == b.ratio and a.name < b.name
  end)
  return list
end

--- Charts, each with `title`, `floor`, `goal` and `bars`, of runs of all peers, each a list of
--- rows; where several have a peer, the last. Moonlet's own benchmarks serve where none has it.
function comparison.charts(runs, own)
  local charts, list = {}, {}
  for _, measure in ipairs(measures) do
    charts[measure[1]] = { title = measure[2], floor = measure.floor or "floor",
                           goal = measure.goal, bars = {} }
  end
  for _, run in ipairs(runs) do
    add_run(charts, run)
  end
  add_own(charts, own)
  for _, measure in ipairs(measures) do
    local chart = charts[measure[1]]
    chart.bars = sorted(chart.bars)
    list[#list + 1] = chart.bars[1] and chart
  end
  return list
end

--- The measures that `make bench` has as well: its titles of them.
function comparison.own_titles()
  local titles = {}
  for _, measure in ipairs(measures) do
    titles[#titles + 1] = measure.ours
  end
  return titles
end

return comparison
