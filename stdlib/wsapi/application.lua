-- What may be a WSAPI application.

local function is_callable(value)
  local meta = getmetatable(value)
  return type(value) == "function" or type(meta) == "table" and meta.__call ~= nil
end

-- The function that an application is: a function, a table with `run`, or the name of a module that
-- is one of both; nil if it is none.
return function(app)
  if type(app) == "string" then
    app = require(app)
  end
  if type(app) == "table" and is_callable(app.run) then
    return app.run
  end
  return is_callable(app) and app or nil
end
