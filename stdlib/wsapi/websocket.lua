-- env.websocket: what a request for a WebSocket has for the application (moonlet.websocket).
--
-- It is accepted when the application uses it, and closed when the application returns. An
-- application that does not use it answers the request as any other.

local websocket = require "moonlet.websocket"

-- Values of header fields in an environment; those of CGI itself have no prefix.
local function header_of(env)
  return function(name)
    local key = name:upper():gsub("-", "_")
    return env[key:find("^CONTENT_") and key or "HTTP_" .. key]
  end
end

-- An application that refuses a request. The client may have begun to send frames already.
local function refusing(message, status, headers)
  local all = { { "Content-Type", "text/plain" }, { "Connection", "close" } }
  table.move(headers, 1, #headers, 3, all)
  return function()
    return status, all, message .. "\n"
  end
end

-- What is to serve a request for a WebSocket instead of the application: mostly the application,
-- with env.websocket.
local function upgrade(env, connection)
  local ws, message, status, headers = websocket.upgrade {
    method = env.REQUEST_METHOD,
    version = env.SERVER_PROTOCOL,
    header = header_of(env),
    take = function()
      return connection:take()
    end,
  }
  if not ws then
    return refusing(message, status, headers)
  end
  env.websocket = ws
  return function()
    local result
    do
      local _ <close> = ws
      result = table.pack(connection.server._app(env))
    end
    if ws._refusal then
      return refusing(table.unpack(ws._refusal))()
    end
    return table.unpack(result, 1, result.n)
  end
end

return { upgrade = upgrade }
