-- Tables of tab separated values whose first line names the columns.

local tsv = {}

local function fields(line)
  local list = {}
  for field in (line .. "\t"):gmatch("([^\t]*)\t") do
    list[#list + 1] = field
  end
  return list
end

-- A list of the lines, each a table by column; what is a number is read as one.
function tsv.parse(text)
  local names, rows = nil, {}
  for line in text:gmatch("[^\r\n]+") do
    local values = fields(line)
    if names then
      local row = {}
      for i, name in ipairs(names) do
        row[name] = tonumber(values[i]) or values[i]
      end
      rows[#rows + 1] = row
    end
    names = names or values
  end
  return rows
end

function tsv.read(path)
  local file <close> = assert(io.open(path))
  return tsv.parse(file:read("a"))
end

return tsv
