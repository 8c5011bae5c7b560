-- Access and error logs.

local log = {}

-- The function that takes a line, of an option: a file, a function, or false; nil is stderr.
function log.writer(option)
  if option == nil then
    option = io.stderr
  end
  if option == false or type(option) == "function" then
    return option
  end
  local meta = getmetatable(option)
  if type(meta) == "table" and meta.__call then
    return option
  end
  return function(line)
    option:write(line, "\n")
  end
end

local known_time, known_text

-- Now, as Apache writes it.
local function timestamp()
  local time = os.time()
  if time ~= known_time then
    known_time, known_text = time, os.date("%d/%b/%Y:%H:%M:%S %z", time)
  end
  return known_text
end

local function escape(char)
  return ("\\x%02x"):format(char:byte())
end

-- What a client sent, fit for a line between quotes.
local function quoted(text)
  if text:find('[%c"\\\127-\255]') then
    return (text:gsub('[%c"\\\127-\255]', escape))
  end
  return text
end

log.quoted = quoted

-- Apache's combined format, and the seconds that the request took.
function log.line(client, request, status, length, referer, agent, seconds)
  return ('%s - - [%s] "%s" %s %s "%s" "%s" %.6f'):format(
    client, timestamp(), quoted(request), status, length or "-", quoted(referer or "-"),
    quoted(agent or "-"), seconds)
end

return log
