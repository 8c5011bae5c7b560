--- Aids for testing programs made of greenlets.

local core = require "moonlet.testing.core"
local moonlet = require "moonlet"

local testing = {}

local function check_function(number, name, f)
  if type(f) ~= "function" and not (getmetatable(f) or {}).__call then
    error(("bad argument #%d to '%s' (function expected, got %s)"):format(
            number, name, f == nil and "no value" or type(f)), 3)
  end
end

-- Calls undo() when the block ends, however it does.
local function finally(undo)
  return setmetatable({}, { __close = undo })
end

--- Runs f(...) by a clock that jumps to the next timer whenever nothing is ready: an hour of
-- sleeps takes no time, and everything happens in the order it would have.
---@param f function
---@return any ... # f's results
function testing.virtual_clock(f, ...)
  check_function(1, "virtual_clock", f)
  local was = core.clock(true)
  local _ <close> = finally(function()
    core.clock(was)
  end)
  return f(...)
end

-- Spreads neighbouring seeds over all bits; never 0, which means first in, first out.
local function scramble(seed)
  local state = seed * 0x9E3779B97F4A7C15 + 0x632BE59BD9B4E019
  return state ~= 0 and state or 1
end

--- Runs f(...) while greenlets that are ready run in a random order, to find programs that
-- trust in the order. The same seed gives the same order; a failure tells the seed.
---@param seed integer
---@param f function
---@return any ... # f's results
function testing.shuffle(seed, f, ...)
  if math.type(seed) ~= "integer" then
    error(("bad argument #1 to 'shuffle' (integer expected, got %s)"):format(
            seed == nil and "no value" or type(seed)), 2)
  end
  check_function(2, "shuffle", f)
  local was = core.order(scramble(seed))
  local _ <close> = finally(function()
    core.order(was)
  end)
  local results = table.pack(xpcall(f, function(err)
    local note = ("(with the order of seed %d)"):format(seed)
    if type(err) == "string" then
      return err .. "\n" .. note
    end
    io.stderr:write("moonlet.testing: shuffle failed ", note, "\n")
    return err
  end, ...))
  if not results[1] then
    error(results[2], 0)
  end
  return table.unpack(results, 2, results.n)
end

local COUNTED = { "greenlets", "timers", "watchers", "pinned", "signals" }

local function count()
  local stats, counts = moonlet.stats(), { fds = core.fds() }
  for _, name in ipairs(COUNTED) do
    counts[name] = stats[name]
  end
  return counts
end

-- What there is more of than before, as text, or nil.
local function grown(before)
  local now, list = count(), {}
  for _, name in ipairs { "greenlets", "timers", "watchers", "pinned", "signals", "fds" } do
    if now[name] > before[name] then
      list[#list + 1] = ("%s: %d more"):format(name, now[name] - before[name])
    end
  end
  return #list > 0 and table.concat(list, ", ") or nil
end

--- Runs f(...), and raises if it leaves a greenlet, timer, watcher, signal handler, descriptor
-- or pinned C stack behind. What is about to end has a few turns for it.
---@param f function
---@return any ... # f's results
---@raise an error that names what was left
function testing.no_leaks(f, ...)
  check_function(1, "no_leaks", f)
  local before = count()
  local results = table.pack(f(...))
  collectgarbage()
  for _ = 1, 20 do
    if not grown(before) then
      return table.unpack(results, 1, results.n)
    end
    moonlet.sleep(0)
  end
  local lines = {}
  moonlet.run_info(function(text)
    lines[#lines + 1] = text
  end)
  error(("left behind: %s\n%s"):format(grown(before), table.concat(lines)), 2)
end

return testing
