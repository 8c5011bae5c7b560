-- Values of header fields that are lists of tokens.

local fields = {}

local TOKEN = "[%w!#$%%&'*+%-.^_`|~]+"

-- The elements of a list, without empty ones.
function fields.elements(value)
  local list = {}
  for element in (value or ""):gmatch("[^,]+") do
    element = element:match("^%s*(.-)%s*$")
    if element ~= "" then
      list[#list + 1] = element
    end
  end
  return list
end

-- Whether a token is in a list, whatever its case.
function fields.has(value, token)
  for _, element in ipairs(fields.elements(value)) do
    if element:lower() == token then
      return true
    end
  end
  return false
end

function fields.is_token(text)
  return text:find("^" .. TOKEN .. "$") ~= nil
end

-- Whether a value may stand in a header field.
function fields.is_value(text)
  return not text:find("[%z\r\n]")
end

local function unquote(text)
  return (text:sub(2, -2):gsub("\\(.)", "%1"))
end

-- "; name=value" at `at`: where the next begins, name, value; nothing if there is none.
local function parse_parameter(text, at)
  local _, last, name = text:find("^%s*;%s*(" .. TOKEN .. ")%s*", at)
  if not last then
    return nil
  end
  local _, after, quoted = text:find('^=%s*("[^"\\]*")', last + 1)
  if after then
    return after + 1, name, unquote(quoted)
  end
  local _, finish, value = text:find("^=%s*(" .. TOKEN .. ")", last + 1)
  if finish then
    return finish + 1, name, value
  end
  return last + 1, name, true
end

-- A list of extensions with their parameters: { { name =, { name, value or true }, ... }, ... };
-- nothing if it is malformed.
function fields.extensions(text)
  local list, at = {}, 1
  text = text or ""
  while text:find("%S", at) do
    local _, last, name = text:find("^[%s,]*(" .. TOKEN .. ")", at)
    if not last then
      return text:find("^[%s,]*$", at) and list or nil
    end
    local extension = { name = name:lower() }
    at = last + 1
    for after, parameter, value in parse_parameter, text, at do
      extension[#extension + 1] = { parameter:lower(), value }
      at = after
    end
    list[#list + 1] = extension
    if not text:find("^%s*,", at) then
      return text:find("^%s*$", at) and list or nil
    end
  end
  return list
end

return fields
