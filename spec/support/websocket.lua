-- WebSockets whose other end is held by the spec, and small servers.

local core = require "moonlet.wslay.core"
local frames = require "support.frames"
local llhttp = require "moonlet.llhttp"
local moonlet = require "moonlet"
local socket = require "moonlet.socket"
local websocket = require "moonlet.websocket"

local support = {}

local KEY = "dGhlIHNhbXBsZSBub25jZQ=="

--- A request as websocket.accept takes it; `changes` are header fields, false takes one away.
function support.request(stream, changes, others)
  local headers = {
    host = "example.com",
    upgrade = "websocket",
    connection = "Upgrade",
    ["sec-websocket-key"] = KEY,
    ["sec-websocket-version"] = "13",
  }
  for name, value in pairs(changes or {}) do
    headers[name] = value or nil
  end
  local request = { method = "GET", version = "1.1", stream = stream, header = function(name)
    return headers[name]
  end }
  for name, value in pairs(others or {}) do
    request[name] = value
  end
  return request
end

-- ---- the spec's end ----

local Peer = {}
Peer.__index = Peer

-- Reads the next frame; nil at the end.
function Peer:frame()
  while true do
    local ok, frame, next = pcall(frames.parse, self.bytes)
    if ok then
      self.bytes = self.bytes:sub(next)
      return frame
    end
    local bytes = self.stream:recv()
    if not bytes then
      return nil
    end
    self.bytes = self.bytes .. bytes
  end
end

-- Sends frames as this end has to.
function Peer:send(opcode, payload, opts)
  local all = { mask = self.mask }
  for name, value in pairs(opts or {}) do
    all[name] = value
  end
  return assert(self.stream:send(frames.make(opcode, payload, all)))
end

function Peer:close()
  self.stream:close()
end

-- Reads up to the end of a head.
local function read_head(stream)
  local head = ""
  while not head:find("\r\n\r\n", 1, true) do
    head = head .. assert(stream:recv(1))
  end
  return head
end

--- The server's end of a connection, and the spec's.
function support.server(opts, changes)
  local a, b = socket.socketpair()
  local ws = assert(websocket.accept(support.request(a, changes), opts))
  local head = read_head(b)
  return ws, setmetatable({ stream = b, bytes = "", mask = "\1\2\3\4", head = head }, Peer)
end

--- The client's end of a connection, and the spec's; answer: more lines of the head.
function support.client(opts, answer)
  local a, b = socket.socketpair()
  local head
  local g = moonlet.spawn(function()
    head = read_head(b)
    local key = head:match("Sec%-WebSocket%-Key: (%S+)")
    b:send("HTTP/1.1 101 Yes\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" ..
             "Sec-WebSocket-Accept: " .. core.accept(key) .. "\r\n" .. (answer or "") .. "\r\n")
  end)
  local all = { stream = a }
  for name, value in pairs(opts or {}) do
    all[name] = value
  end
  local ws = assert(websocket.connect("ws://example.com/", all))
  g:join()
  return ws, setmetatable({ stream = b, bytes = "", head = head }, Peer)
end

--- Both ends, on sockets of the kernel.
function support.pair(server_opts, client_opts)
  local a, b = socket.socketpair()
  local server
  local g = moonlet.spawn(function()
    server = support.serve_one(a, server_opts)
  end)
  local all = { stream = b }
  for name, value in pairs(client_opts or {}) do
    all[name] = value
  end
  local client = assert(websocket.connect("ws://example.com/", all))
  g:join()
  return server, client
end

-- ---- servers ----

--- Reads a request from a stream and answers it: a WebSocket; or refuses it.
function support.serve_one(stream, opts)
  local parser = llhttp.new("request")
  local bytes = stream:recv()
  local event, next = parser:execute(bytes or "")
  while event == "more" and bytes do
    bytes = stream:recv()
    event, next = parser:execute(bytes or "")
  end
  if event ~= "headers" then
    return nil
  end
  local headers = parser:headers()
  local ws, message, status, fields = websocket.accept({
    method = parser:method(), version = parser:version(), stream = stream,
    leftover = bytes:sub(next), header = function(name)
      return headers[name]
    end,
  }, opts)
  if not ws then
    local lines = { ("HTTP/1.1 %d %s\r\nContent-Length: 0\r\n"):format(status, message) }
    for _, field in ipairs(fields) do
      lines[#lines + 1] = ("%s: %s\r\n"):format(field[1], field[2])
    end
    stream:send(table.concat(lines) .. "\r\n")
    stream:close()
  end
  return ws
end

--- A server that runs app(ws) for each connection; its port, and a function that stops it.
function support.serve(app, opts)
  local listener = assert(socket.bind("127.0.0.1", 0))
  local _, port = listener:getsockname()
  local greenlets = {}
  greenlets[1] = moonlet.spawn(function()
    for stream in listener.accept, listener do
      greenlets[#greenlets + 1] = moonlet.spawn(function()
        local ws <close> = support.serve_one(stream, opts)
        if ws then
          app(ws)
        end
      end)
    end
  end)
  return port, function()
    listener:close()
    moonlet.killall(greenlets)
    moonlet.joinall(greenlets)
  end
end

--- An app that sends everything back.
function support.echo(ws)
  for data, kind in ws do
    if not ws:send(data, kind) then
      break
    end
  end
end

return support
