-- Small HTTP servers for specs, whose answers the spec writes byte by byte if it likes.

local http = require "moonlet.http"
local llhttp = require "moonlet.llhttp"
local moonlet = require "moonlet"
local socket = require "moonlet.socket"

local web = {}

-- ---- one connection ----

local Peer = {}
Peer.__index = Peer

-- The next event of the parser; nil at the end of the connection.
local function advance(self)
  while true do
    local event, at, piece = self.parser:execute(self.data, self.at)
    assert(event, at)
    self.at = at
    if event ~= "more" then
      return event, piece
    end
    local data = self.stream:recv()
    if not data then
      return nil
    end
    self.data, self.at = data, 1
  end
end

--- Reads the head of the next request; nil if there is none.
function Peer:head()
  local event = advance(self)
  if not event then
    return nil
  end
  assert(event == "headers")
  local parser = self.parser
  local request = { method = parser:method(), target = parser:target(), headers = parser:headers(),
                    chunked = parser:chunked(), connection = self.number }
  table.insert(self.server.requests, request)
  return request
end

--- Reads the next piece of its body; nil at its end.
function Peer:piece()
  local event, piece = advance(self)
  return event == "body" and piece or nil, event == nil
end

--- Reads a whole request, with its body; nil if there is none.
function Peer:request()
  local request = self:head()
  if not request then
    return nil
  end
  local parts = {}
  for piece in self.piece, self do
    parts[#parts + 1] = piece
  end
  request.body = table.concat(parts)
  request.trailers = self.parser:trailers()
  return request
end

--- Sends bytes as they are; nil if the client is gone.
function Peer:send(data)
  return self.stream:send(data)
end

--- Answers: a status, "200 OK" if nothing is said, a text of fields ("A: b\r\n"), a body.
function Peer:reply(status, fields, body)
  body = body or ""
  return self:send(("HTTP/1.1 %s\r\n%sContent-Length: %d\r\n\r\n%s"):format(
    status or "200 OK", fields or "", #body, body))
end

-- ---- servers ----

local Server = {}
Server.__index = Server

function Server:_serve(stream, number)
  local peer <close> = setmetatable({
    server = self, stream = stream, number = number, data = "", at = 1,
    parser = llhttp.new("request"),
  }, { __index = Peer, __close = function(peer)
    peer.stream:close()
  end })
  if self.context then
    local ssl = require "moonlet.ssl"
    peer.stream = assert(ssl.wrap(stream, self.context))
    if not peer.stream:dohandshake() then
      return
    end
  end
  self.open = self.open + 1
  local counting <close> = setmetatable({}, { __close = function()
    self.open = self.open - 1
  end })
  self.most = math.max(self.most, self.open)
  self.handle(peer, counting)
end

function Server:_accept()
  while true do
    local stream = self.listener:accept()
    if not stream then
      return
    end
    if self.port then
      stream:setoption("tcp-nodelay", true)
    end
    self.count = self.count + 1
    table.insert(self.greenlets, moonlet.spawn(self._serve, self, stream, self.count))
  end
end

--- The URL of a path on it.
function Server:url(path)
  return ("%s://%s:%d%s"):format(self.context and "https" or "http", self.host, self.port,
                                 path or "/")
end

function Server:stop()
  self.listener:close()
  moonlet.killall(self.greenlets)
end

Server.__close = Server.stop

--- Starts a server on a free port: handle(peer) is called for each connection, which is closed
--- when it returns. Options: `tls` (parameters of moonlet.ssl), `host`, `unix` (a path), `backlog`.
--- It counts `requests` (a list), connections (`count`), those open at present and at `most`.
function web.start(handle, options)
  options = options or {}
  local self = setmetatable({ handle = handle, requests = {}, count = 0, open = 0, most = 0,
                              greenlets = {}, host = options.host or "127.0.0.1" }, Server)
  self.context = options.tls and assert(require("moonlet.ssl").newcontext(options.tls))
  if options.unix then
    self.listener = socket.unix()
    assert(self.listener:bind(options.unix))
    assert(self.listener:listen())
  else
    self.listener = assert(socket.bind((self.host:gsub("[][]", "")), 0, options.backlog))
    local _, port = self.listener:getsockname()
    self.port = math.tointeger(tonumber(port))
  end
  self.greenlets[1] = moonlet.spawn(self._accept, self)
  return self
end

--- A server that calls answer(peer, request) for each whole request, as long as it returns nothing.
function web.serve(answer, options)
  return web.start(function(peer)
    for request in peer.request, peer do
      if answer(peer, request) ~= nil then
        return
      end
    end
  end, options)
end

--- A port that nobody listens on just now.
function web.free_port()
  local listener <close> = assert(socket.bind("127.0.0.1", 0))
  local _, port = listener:getsockname()
  return math.tointeger(tonumber(port))
end

local Copying = {}
Copying.__index = Copying

function Copying:join()
  self.greenlet:join()
end

function Copying:__close()
  self.greenlet:kill()
end

--- Sends all that one stream receives to another, in a greenlet that a `<close>` variable kills.
function web.copy(from, to)
  return setmetatable({ greenlet = moonlet.spawn(function()
    local data = from:recv()
    while data and to:send(data) do
      data = from:recv()
    end
    to:shutdown("send")
  end) }, Copying)
end

--- Starts the server of a spec and a client for it; both end with the spec, whose `finally` it is.
function web.serve_client(finally, answer, options)
  local client, server = http.Client { proxy = false }, web.serve(answer, options)
  finally(function()
    client:close()
    server:stop()
    os.remove(options and options.unix or "")
  end)
  return server, client
end

return web
