-- http.lua PORT: answers every request with "hello world".

local wsapi = require "moonlet.wsapi"

local function app()
  return 200, { ["Content-Type"] = "text/plain" }, "hello world\n"
end

assert(wsapi.WSAPIServer({ "127.0.0.1", math.tointeger(arg[1]) }, app,
                         { log = false }):serve_forever())
