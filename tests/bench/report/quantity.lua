-- Numbers as people read them: three digits, and the unit that suits.

local quantity = {}

-- Each unit as so many of the smallest of its kind; from the smallest on.
local KINDS = {
  { { "ns", 1 }, { "µs", 1e3 }, { "ms", 1e6 }, { "s", 1e9 } },
  { { "B", 1 }, { "kB", 1e3 }, { "MB", 1e6 }, { "GB", 1e9 } },
}
local ALIASES = { us = "µs", bytes = "B" }

-- The kind of a unit, and how many of the smallest of its kind it is.
local function kind_of(unit)
  unit = ALIASES[unit] or unit
  for _, kind in ipairs(KINDS) do
    for _, known in ipairs(kind) do
      if known[1] == unit then
        return kind, known[2]
      end
    end
  end
  return { { unit, 1 } }, 1
end

-- Three digits, and no more zeros after the point than there are digits.
local function digits(value)
  local decimals = value > 0 and math.max(0, 2 - math.floor(math.log(value, 10) + 1e-9)) or 0
  local text = ("%." .. math.min(decimals, 6) .. "f"):format(value)
  return text:find(".", 1, true) and text:gsub("0+$", ""):gsub("%.$", "") or text
end

function quantity.show(value, unit)
  local kind, scale = kind_of(unit)
  value = value * scale
  local best = kind[1]
  for _, larger in ipairs(kind) do
    if value >= larger[2] * 0.9995 then
      best = larger
    end
  end
  return digits(value / best[2]) .. " " .. best[1]
end

function quantity.ratio(value)
  local decimals = value < 9.995 and 2 or value < 99.95 and 1 or 0
  return ("%." .. decimals .. "f×"):format(value)
end

-- A round ratio.
function quantity.times(value)
  return digits(value) .. "×"
end

-- A power of ten.
function quantity.power(n)
  return n >= 1000000 and n // 1000000 .. "M" or n >= 1000 and n // 1000 .. "k" or tostring(n)
end

-- With commas between thousands.
function quantity.count(n)
  local text = ("%d"):format(n):reverse():gsub("(%d%d%d)", "%1,"):reverse():gsub("^,", "")
  return text
end

return quantity
