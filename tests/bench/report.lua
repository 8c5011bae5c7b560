-- report.lua BUILD [RESULTS...]: writes BUILD/bench/report.html from what times.lua and grow.lua
-- have left in BUILD, and from runs of all peers: files of tab separated values whose columns are
-- named in the first line, among them measure, peer, median, unit ("M1.ring2.switch go 76.9 ns").

local page = require "tests.bench.report.page"
local tsv = require "tests.bench.report.tsv"

local build = arg[1]

local function read(path)
  local file <close> = io.open(path)
  return file and file:read("a") or ""
end

-- A line on the machine and the time.
local function about()
  local kind = read("/proc/cpuinfo"):match("model name%s*:%s*([^\n]+)") or "unknown processor"
  local _, processors = read("/proc/cpuinfo"):gsub("processor%s*:", "")
  return ("%s · %s, %d at hand · medians; CPU times, which other programs on the machine disturb "
    .. "less than elapsed ones, but do disturb"):format(os.date("%Y-%m-%d"), kind, processors)
end

local runs, names = {}, {}
for i, name in ipairs { table.unpack(arg, 2) } do
  runs[i], names[i] = tsv.read(name), name:match("[^/]*$")
end
local html = page {
  runs = runs,
  names = names,
  own = tsv.read(build .. "/bench.tsv"),
  growth = tsv.read(build .. "/bench/growth.tsv"),
  about = about(),
  style = read("tests/bench/report/style.css"),
}
local path = build .. "/bench/report.html"
local file <close> = assert(io.open(path, "w"))
assert(file:write(html))
print(path)
