-- What specs of the HTTP server share: servers, raw requests, and responses taken apart.

local llhttp = require "moonlet.llhttp"
local servers = require "support.servers"
local wsapi = require "moonlet.wsapi"

local http = {}

http.connect = servers.connect

--- A server of an application at a free port, started; without logs unless opts has some.
function http.serve(app, opts)
  local full = { log = false, error_log = false }
  for name, value in pairs(opts or {}) do
    full[name] = value
  end
  return servers.started(wsapi.WSAPIServer, servers.HERE, app, full)
end

--- A request: the first line, further lines, a body.
function http.text(line, fields, body)
  local lines = { line, "Host: here", table.unpack(fields or {}) }
  return table.concat(lines, "\r\n") .. "\r\n\r\n" .. (body or "")
end

--- GET of a path, in HTTP/1.1.
function http.get(path, ...)
  return http.text("GET " .. path .. " HTTP/1.1", { ... })
end

--- POST of a body with its length.
function http.post(path, body, ...)
  return http.text("POST " .. path .. " HTTP/1.1", { "Content-Length: " .. #body, ... }, body)
end

--- POST of a body in chunks, which are written already.
function http.chunked(path, chunks, ...)
  return http.text("POST " .. path .. " HTTP/1.1", { "Transfer-Encoding: chunked", ... }, chunks)
end

--- All that a server answers to bytes, after which the client sends no more.
function http.talk(server, bytes)
  local client = servers.connect(server)
  local sent = client:send(bytes)
  if sent then
    client:shutdown("send")
  end
  return (servers.read_all(client))
end

--- The responses in bytes: a list of { status =, reason =, version =, headers =, body =, chunks =
--- (a list), trailers =, complete = }; `heads` says which of them answer HEAD.
function http.parse(bytes, heads)
  local parser, list, from = llhttp.new("response"), {}, 1
  local function begin()
    if heads and heads[#list + 1] then
      parser:skip_body()
    end
  end
  begin()
  repeat
    local event, next, piece = parser:execute(bytes, from)
    local last = list[#list]
    if not event then
      error(("no response: %s at %q"):format(next, bytes:sub(from, from + 60)))
    elseif event == "headers" then
      list[#list + 1] = { status = parser:status(), reason = parser:reason(), body = "",
                          version = parser:version(), headers = parser:headers() }
    elseif event == "body" then
      last.body = last.body .. piece
    elseif event == "end" then
      last.complete = true
      last.trailers = parser:trailers()
      begin()
    end
    from = next
  until event == "more"
  if list[1] and not list[#list].complete and parser:finish() == "end" then
    list[#list].complete = true
  end
  return list
end

--- The responses of a server to bytes.
function http.ask(server, bytes, heads)
  return http.parse(http.talk(server, bytes), heads)
end

--- The same if there is to be one only.
function http.one(server, bytes, head)
  local list = http.ask(server, bytes, { head })
  assert(#list == 1, #list .. " responses")
  return list[1]
end

--- Reads one response from a client's connection that stays open: its bytes.
function http.receive(client)
  local parser, parts = llhttp.new("response"), {}
  while true do
    local data = client:recv()
    if not data then
      return table.concat(parts)
    end
    parts[#parts + 1] = data
    local from = 1
    repeat
      local event, next = parser:execute(data, from)
      if event == "end" then
        return table.concat(parts)
      end
      from = next
    until event == "more" or not event
  end
end

--- An application that tells what it was called with, in a list, and answers "ok".
function http.recorder()
  local calls = {}
  return function(env)
    local copy = {}
    for name, value in pairs(env) do
      copy[name] = value
    end
    copy.body = env.input:read()
    calls[#calls + 1] = copy
    return 200, { ["Content-Type"] = "text/plain" }, "ok"
  end, calls
end

--- An iterator over values.
function http.iterator(...)
  local values, i = table.pack(...), 0
  return function()
    i = i + 1
    return values[i]
  end
end

return http
