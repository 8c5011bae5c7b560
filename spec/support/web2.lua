-- Small servers of HTTP/2 for specs, over TLS.

local lock = require "moonlet.lock"
local moonlet = require "moonlet"
local nghttp2 = require "moonlet.nghttp2"
local web = require "support.web"

local web2 = {}

-- ---- one request ----

local Exchange = {}
Exchange.__index = Exchange

--- Submits a head, as HTTP/1.1 has it without its last line, and whether a body follows.
function Exchange:head(text, more)
  self.connection.session:respond(self.id, "HTTP/1.1 " .. text .. "\r\n\r\n", more)
  self.connection:flush()
end

--- Sends a piece of the body and waits until it is out; false if the client does not want it.
function Exchange:send(piece, is_last, trailers)
  local ok = self.connection.session:data(self.id, piece, is_last, trailers)
  self.under_way = ok
  self.connection:flush()
  while self.under_way do
    moonlet.sleep(0.0005)
  end
  return ok and not self.closed
end

--- Answers: a status, "200 OK" if nothing is said, a text of fields ("A: b\r\n"), a body.
function Exchange:reply(status, fields, body)
  body = body or ""
  self:head(("%s\r\n%sContent-Length: %d"):format(status or "200 OK", fields or "", #body),
            body ~= "")
  if body ~= "" then
    self:send(body, true)
  end
end

function Exchange:reset(code)
  self.connection.session:reset(self.id, code)
  self.connection:flush()
end

--- The next piece of the request's body; nil at its end.
function Exchange:piece()
  while #self.pieces == 0 and not self.ended and not self.closed do
    moonlet.sleep(0.0005)
  end
  local piece = table.remove(self.pieces, 1)
  if piece and not self.closed then
    self.connection.session:consume(self.id, #piece)
    self.connection:flush()
  end
  return piece
end

--- The rest of the request's body.
function Exchange:body()
  local parts = {}
  for piece in self.piece, self do
    parts[#parts + 1] = piece
  end
  return table.concat(parts)
end

-- ---- one connection ----

local Connection = {}
Connection.__index = Connection

function Connection:flush()
  local hold <close> = self.sending:hold()
  local data, events = self.session:pull()
  while data do
    self.peer:send(data)
    self:handle(events)
    data, events = self.session:pull()
  end
  self:handle(events)
  return hold
end

local function parse(head)
  local method, target = head:match("^(%S+) (%S+)")
  local headers = {}
  for name, value in head:gmatch("\n([^:\r]+): ?([^\r]*)") do
    headers[name:lower()] = value
  end
  return method, target, headers
end

local HANDLERS = {}

function HANDLERS.request(self, event)
  local method, target, headers = parse(event.head)
  local exchange = setmetatable({ connection = self, id = event.stream, method = method,
                                  target = target, headers = headers, pieces = {},
                                  ended = event.ended }, Exchange)
  self.exchanges[event.stream] = exchange
  table.insert(self.server.requests, exchange)
  self.server.streams = math.max(self.server.streams, self.server.running + 1)
  self.server.running = self.server.running + 1
  table.insert(self.server.greenlets, moonlet.spawn(function()
    self.server.answer(exchange)
    self.server.running = self.server.running - 1
  end))
end

function HANDLERS.data(self, event)
  table.insert(self.exchanges[event.stream].pieces, event.data)
end

HANDLERS["end"] = function(self, event)
  self.exchanges[event.stream].ended = true
end

function HANDLERS.drained(self, event)
  self.exchanges[event.stream].under_way = false
end

function HANDLERS.close(self, event)
  local exchange = self.exchanges[event.stream]
  exchange.under_way, exchange.closed = false, event.code
end

function Connection:handle(events)
  for _, event in ipairs(events or {}) do
    if HANDLERS[event.kind] then
      HANDLERS[event.kind](self, event)
    end
  end
end

local function serve(peer, limits)
  local self = setmetatable({ server = peer.server, peer = peer, exchanges = {},
                              session = nghttp2.new("server", limits),
                              sending = lock.Lock() }, Connection)
  table.insert(self.server.connections, self)
  self:flush()
  for data in function() return (peer.stream:recv()) end do
    self:handle(self.session:feed(data))
    self:flush()
  end
end

--- Starts a server that calls answer(exchange) in a greenlet for each request: with `method`,
--- `target`, `headers`. Options are those of web.start, and `limits` of its sessions. It counts
--- what web's do, and requests at once (`streams`).
function web2.serve(answer, options)
  local limits = options.limits
  options.tls.alpn = options.tls.alpn or { "h2", "http/1.1" }
  local server = web.start(function(peer)
    if peer.stream:getalpn() == "h2" then
      serve(peer, limits)
    end
  end, options)
  server.answer, server.running, server.streams, server.connections = answer, 0, 0, {}
  return server
end

return web2
