-- 29. WSAPI servers, buffered and streaming
-- A body that is there as a whole is sent with its length; an iterator's pieces go out one by one,
-- as chunks in HTTP/1.1 and as they are, up to the end of the connection, in HTTP/1.0.

local socket = require "moonlet.socket"
local wsapi = require "moonlet.wsapi"

local function buffered()
  return 200, { ["Content-Type"] = "text/html" }, { "<p>Hello World</p>" }
end

local function streaming()
  return 200, { ["Content-Type"] = "text/html" }, coroutine.wrap(function()
    coroutine.yield("<p>Hello")
    coroutine.yield("World</p>")
  end)
end

local function show(title, app, request)
  local server <close> = wsapi.WSAPIServer({ "127.0.0.1", 0 }, app, { log = false })
  assert(server:start())
  local client <close> = assert(socket.create_connection(server.address))
  assert(client:send(request))
  client:shutdown("send") -- no more requests: the server closes when it has answered
  local answer = assert(client:receive("*a"))
  print(title)
  for line in answer:gsub("Date: [^\r]*", "Date: ..."):gmatch("([^\n]*)\n?") do
    print("  " .. (line:gsub("\r", "\\r")))
  end
end

show("buffered", buffered, "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
show("streaming", streaming, "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
show("streaming to HTTP/1.0", streaming, "GET / HTTP/1.0\r\n\r\n")
