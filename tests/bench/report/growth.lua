-- What grow.lua has measured, by title: how cost grows, in curves and in a table.

local growth = {}

--- A list in the order of the rows: `title`, `unit`, and `moonlet` and `floor`, each a list of
--- points `size` and `value`; `floor` may be empty.
function growth.series(rows)
  local list = {}
  for _, row in ipairs(rows) do
    local title = row.title
    if not list[title] then
      list[title] = { title = title, unit = row.unit, moonlet = {}, floor = {} }
      list[#list + 1] = list[title]
    end
    table.insert(list[title][row.side], { size = row.size, value = row.median })
  end
  return list
end

--- By how much the cost is multiplied where the size is by ten, on the average over what was
--- measured: 1 is flat, 10 in proportion.
function growth.tenfold(points)
  local first, last = points[1], points[#points]
  if not first or first.size == last.size then
    return nil
  end
  return (last.value / first.value) ^ (1 / math.log(last.size / first.size, 10))
end

--- All sizes, in order.
function growth.sizes(series)
  local seen, list = {}, {}
  for _, one in ipairs(series) do
    for _, point in ipairs(one.moonlet) do
      if not seen[point.size] then
        seen[point.size] = true
        list[#list + 1] = point.size
      end
    end
  end
  table.sort(list)
  return list
end

return growth
