-- What the programs share: CPU time, memory, and the form of a result.

local bench = {}

-- Seconds of CPU that this process has used.
bench.cpu = os.clock

local function read(name, pattern)
  local file <close> = assert(io.open(name))
  return tonumber(file:read("a"):match(pattern))
end

-- Bytes of memory in use, as the kernel sees it.
function bench.resident()
  return read("/proc/self/status", "VmRSS:%s*(%d+)") * 1024
end

-- Bytes of page tables, which the figure above leaves out.
function bench.page_tables()
  return read("/proc/self/status", "VmPTE:%s*(%d+)") * 1024
end

function bench.result(name, value, unit)
  print(("%s\t%.6g\t%s"):format(name, value, unit))
end

return bench
