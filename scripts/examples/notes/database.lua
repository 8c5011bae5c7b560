-- Queries to PostgreSQL by LuaSQL, which blocks: this runs in the threads of a ThreadPool, each of
-- which has a state, and so a connection, of its own.

local luasql = require "luasql.postgres"

local database = {}

local environment = luasql.postgres()
local connection

-- A value as SQL has it.
local function literal(value)
  if math.type(value) == "integer" then
    return tostring(value)
  elseif type(value) == "string" and not value:find("\0", 1, true) then
    return "'" .. connection:escape(value) .. "'"
  end
  error("neither an integer nor a text without NUL", 0)
end

local function rows_of(cursor)
  local rows = {}
  if type(cursor) == "userdata" then
    local row = cursor:fetch({}, "a")
    while row do
      rows[#rows + 1] = row
      row = cursor:fetch({}, "a")
    end
    cursor:close()
  end
  return rows
end

--- Runs a statement, in which $1, $2 ... are the values; the rows it gives. `where` says how to
--- connect, as libpq has it. After a failure the next query connects anew.
function database.query(where, sql, ...)
  connection = connection or assert(environment:connect(where))
  local values = { ... }
  local text = sql:gsub("%$(%d+)", function(number)
    return literal(values[tonumber(number)])
  end)
  local cursor, problem = connection:execute(text)
  if not cursor then
    connection:close()
    connection = nil
    error(problem, 0)
  end
  return rows_of(cursor)
end

return database
