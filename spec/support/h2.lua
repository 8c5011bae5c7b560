-- A client of HTTP/2 for specs, on top of a session of moonlet.nghttp2.

local nghttp2 = require "moonlet.nghttp2"
local socket = require "moonlet.socket"

local h2 = {}

local Client = {}
Client.__index = Client

--- A client on a connection, or to a server; `limits` are the session's.
function h2.client(to, limits)
  local sock = to.address and assert(socket.create_connection(to.address, 10)) or to
  return setmetatable({ sock = sock, session = nghttp2.new("client", limits), events = {} }, Client)
end

function Client:close()
  self.sock:close()
  self.session:close()
end

Client.__close = Client.close

--- Sends what there is to be sent.
function Client:flush()
  repeat
    local text, events = self.session:pull()
    self:keep(events)
    if text then
      assert(self.sock:send(text))
    end
  until not text
end

function Client:keep(events)
  for _, event in ipairs(events or {}) do
    table.insert(self.events, event)
  end
end

--- Reads what comes next; false at the end.
function Client:read()
  self:flush()
  local data = self.sock:recv()
  if not data then
    return false
  end
  self:keep(assert(self.session:feed(data)))
  self:flush()
  return true
end

--- Takes the next event of a kind, of a stream or of any; waits for it. nil at the end.
function Client:wait(kind, stream)
  while true do
    for i, event in ipairs(self.events) do
      if event.kind == kind and (not stream or event.stream == stream) then
        return table.remove(self.events, i)
      end
    end
    if not self:read() then
      return nil
    end
  end
end

--- Sends a request: its first line without the version, more lines, and perhaps a body. With a
--- body `false` more is to follow. Returns its stream.
function Client:send(line, fields, body)
  local head = table.concat({ line .. " HTTP/1.1", "Host: here", table.unpack(fields or {}) },
                            "\r\n") .. "\r\n\r\n"
  local id = assert(self.session:request(head, body ~= nil, "http"))
  if body then
    self.session:data(id, body, true)
  end
  self:flush()
  return id
end

-- What an event adds to a response.
local add = {}

function add.response(response, event)
  response.status, response.fields = event.status, event.fields
end

function add.data(response, event, session)
  response.body = response.body .. event.data
  session:consume(event.stream, #event.data)
end

function add.trailers(response, event)
  response.trailers = event.fields
end

function add.close(response, event)
  response.code = event.code
end

--- The response to a request of send, read to its end: status, fields, body, trailers, and the code
--- the stream ended with.
function Client:receive(id)
  local response = { body = "" }
  repeat
    local rest = {}
    for _, event in ipairs(self.events) do
      if event.stream ~= id then
        rest[#rest + 1] = event
      elseif add[event.kind] then
        add[event.kind](response, event, self.session)
      end
    end
    self.events = rest
  until response.code or not self:read()
  return response
end

--- Both in one.
function Client:ask(...)
  return self:receive(self:send(...))
end

return h2
