-- HTML and SVG as text.

local markup = {}

local ENTITIES = { ["&"] = "&amp;", ["<"] = "&lt;", [">"] = "&gt;", ['"'] = "&quot;" }

function markup.escape(text)
  return (tostring(text):gsub('[&<>"]', ENTITIES))
end

local function attributes(table_)
  local list = {}
  for name, value in pairs(table_) do
    if math.type(value) == "float" then
      value = ("%.2f"):format(value):gsub("%.?0+$", "")
    end
    list[#list + 1] = (' %s="%s"'):format(name, markup.escape(value))
  end
  table.sort(list)
  return table.concat(list)
end

local BLOCKS = {}
for name in ("head style body header section h1 h2 h3 p div figure svg g tr"):gmatch("%w+") do
  BLOCKS[name] = "\n"
end

-- markup.NAME { attribute = value, child, ... }: an element; its children are markup already.
return setmetatable(markup, {
  __index = function(self, name)
    local function element(content)
      local children, named = {}, {}
      for key, value in pairs(content) do
        if math.type(key) == "integer" then
          children[key] = value
        else
          named[key] = value
        end
      end
      return ("<%s%s>%s</%s>%s"):format(name, attributes(named), table.concat(children), name,
        BLOCKS[name] or "")
    end
    self[name] = element
    return element
  end,
})
