-- The options of connections: what there is, what holds if nothing is said, what is refused.

local options = {}

local DEFAULTS = {
  max_message = 1 << 20,
  max_queue = 1 << 20,
  close_timeout = 10,
}

local COMPRESSION = {
  level = { "integer", -1, -1, 9 },
  memory = { "integer", 8, 1, 9 },
  window_bits = { "integer", 15, 9, 15 },
  threshold = { "integer", 64, 0, 0x7FFFFFFF },
  context_takeover = { "boolean", true },
}

local function size(value)
  return math.type(value) == "integer" and value > 0 or "positive integer expected"
end

local function seconds(value)
  return type(value) == "number" and value >= 0 or "seconds expected"
end

local function list(value)
  return type(value) == "table" or "table expected"
end

-- Of either end.
local CHECKS = {
  max_message = size,
  max_frame = size,
  max_queue = size,
  send_timeout = seconds,
  close_timeout = seconds,
  ping_interval = seconds,
  ping_timeout = seconds,
  headers = list,
  compress = function(value)
    return type(value) == "boolean" or type(value) == "table" or "boolean or table expected"
  end,
}

local function any()
  return true
end

local function callable_or_list(value)
  return type(value) == "table" or type(value) == "function" or "table or function expected"
end

local SERVER = { protocols = callable_or_list, origin = any }

local CLIENT = {
  protocols = list,
  timeout = any,
  ssl = any,
  stream = any,
  origin = function(value)
    return type(value) == "string" or "string expected"
  end,
}

local function bad_option(name, why, value)
  return ("option '%s': %s, got %s"):format(name, why, type(value))
end

-- How to compress: nil, or a table in which nothing is missing.
local function compression(value)
  if not value then
    return nil
  end
  local given, all = value == true and {} or value, {}
  for name, rule in pairs(COMPRESSION) do
    local setting = given[name]
    if setting == nil then
      setting = rule[2]
    elseif rule[1] == "boolean" and type(setting) ~= "boolean" or rule[1] == "integer" and
      not (math.type(setting) == "integer" and setting >= rule[3] and setting <= rule[4]) then
      return nil, bad_option("compress." .. name, "out of range", setting)
    end
    all[name] = setting
  end
  for name in pairs(given) do
    if not COMPRESSION[name] then
      return nil, ("unknown option 'compress.%s'"):format(name)
    end
  end
  return all
end

-- A copy of the options with the defaults; `first` is overridden by `second`. nil and what is
-- wrong with them.
function options.read(client, first, second)
  local all = {}
  local own = client and CLIENT or SERVER
  for name, value in pairs(DEFAULTS) do
    all[name] = value
  end
  for _, given in ipairs { first or {}, second or {} } do
    for name, value in pairs(given) do
      local check = CHECKS[name] or own[name]
      if not check then
        return nil, ("unknown option '%s'"):format(tostring(name))
      end
      local why = check(value)
      if why ~= true then
        return nil, bad_option(name, why, value)
      end
      all[name] = value
    end
  end
  local compress, problem = compression(all.compress)
  if problem then
    return nil, problem
  end
  all.compress = compress
  all.max_frame = all.max_frame or all.max_message
  all.ping_timeout = all.ping_timeout or all.ping_interval
  return all
end

return options
