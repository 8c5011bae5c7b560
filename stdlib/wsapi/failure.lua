-- What is raised when a client's request breaks off or goes wrong: the client's fault and not the
-- application's, answered with a status of its own if there is still time for it.

local Failure = {}
Failure.__index = Failure
Failure.__name = "moonlet.wsapi.Failure"

function Failure:__tostring()
  return self.message
end

-- Raises one.
local function fail(status, message)
  error(setmetatable({ status = status, message = message }, Failure), 0)
end

-- The status of an error value, or nil if it is none of these.
local function status_of(err)
  return getmetatable(err) == Failure and err.status or nil
end

return { fail = fail, status_of = status_of }
