-- env.input: a request's body, read as the application asks for it.

local failure = require "moonlet.wsapi.failure"
local moonlet = require "moonlet"

local fail, now, sleep = failure.fail, moonlet.now, moonlet.sleep

--- env.input: the body of a request, which comes as it is read. What is not read is thrown away
-- when the response is sent.
---@class moonlet.wsapi.Input
---@field length integer|nil bytes, if the client has said how many
local Input = {}
Input.__index = Input
Input.__name = "moonlet.wsapi.Input"

-- For the body of one request; `length` is -1 in chunks. Of a request for another protocol
-- (`raw`) it is whatever comes on the connection, once that is granted.
local function new(connection, length, raw)
  return setmetatable({
    length = length >= 0 and length or nil,
    _done = length == 0 and not raw,
    _raw = raw and length == 0,
    _connection = connection,
    _received = 0,
    _waited = 0,
    _reads = 0,
    _piece = "",
    _at = 1,
  }, Input)
end

-- ---- pieces ----

-- A client that sends faster than its body is read would keep all others from their turn.
local MAX_READS = 16

-- Bytes from the client, who has to be quick enough.
function Input:_receive()
  self._reads = self._reads + 1
  if self._reads % MAX_READS == 0 then
    sleep(0)
  end
  local connection = self._connection
  local sock, server = connection.sock, connection.server
  local patience = server.body_timeout + self._received / server.body_rate - self._waited
  sock:settimeout(math.max(patience, 0))
  local start = now()
  local data, problem = sock:recv()
  self._waited = self._waited + (now() - start)
  sock:settimeout(server.idle_timeout)
  if data then
    return data
  elseif problem == "timeout" then
    fail(408, "the request's body came too slowly")
  end
  fail(400, "unexpected end of file: the request's body is incomplete")
end

function Input:_count(piece)
  self._received = self._received + #piece
  if self._received > self._connection.server.max_body then
    fail(413, "the request's body is too large")
  end
  return piece
end

-- Whatever the client sends once the other protocol has begun; nil at the end, and before.
function Input:_raw_piece()
  local connection = self._connection
  if connection.status ~= 101 then
    return nil
  end
  local data, from = connection.data, connection.from
  connection.data = false
  connection.taken = true
  if data then
    return data:sub(from)
  end
  return (connection.sock:recv())
end

-- The next piece of the body, or nil at its end.
function Input:_next_piece()
  local connection = self._connection
  if not connection and self.length ~= 0 then
    error("the request is over", 0)
  elseif self._done then
    return nil
  elseif self._raw then
    return self:_raw_piece()
  end
  local parser = connection.parser
  while true do
    local data = connection.data or ""
    local event, next, piece = parser:execute(data, connection.data and connection.from or 1)
    if not event then
      connection.broken = true
      fail(400, "bad request body: " .. next)
    end
    connection.data, connection.from = next <= #data and data, next
    if event == "body" then
      return self:_count(piece)
    elseif event == "end" then
      self._done = true
      return nil
    end
    connection:continue()
    connection.data, connection.from = self:_receive(), 1
  end
end

-- ---- reading ----

-- What is left of the current piece, or the next piece.
function Input:_take()
  local piece, at = self._piece, self._at
  self._piece, self._at = "", 1
  if at <= #piece then
    return at == 1 and piece or piece:sub(at)
  end
  return self:_next_piece()
end

function Input:_put_back(piece, at)
  self._piece, self._at = piece, at
end

local function joined(parts)
  return #parts > 0 and table.concat(parts) or nil
end

function Input:_read_all()
  local parts = {}
  for piece in self._take, self do
    parts[#parts + 1] = piece
  end
  return joined(parts)
end

function Input:_read_bytes(count)
  local parts, missing = {}, count
  while missing > 0 do
    local piece = self:_take()
    if not piece then
      break
    elseif #piece > missing then
      self:_put_back(piece, missing + 1)
      piece = piece:sub(1, missing)
    end
    parts[#parts + 1] = piece
    missing = missing - #piece
  end
  return joined(parts)
end

-- Nothing is asked for, but whether there is something.
function Input:_probe()
  local piece = self:_take()
  if piece then
    self:_put_back(piece, 1)
    return ""
  end
end

function Input:_read_line(keep_end)
  local parts = {}
  for piece in self._take, self do
    local lf = piece:find("\n", 1, true)
    if lf then
      self:_put_back(piece, lf + 1)
      parts[#parts + 1] = piece:sub(1, keep_end and lf or lf - 1)
      return table.concat(parts)
    end
    parts[#parts + 1] = piece
  end
  return joined(parts)
end

--- Reads from the body; nil at its end.
---@param what? integer|string  so many bytes, fewer only at the end; "a", or nothing: all that is
--   left; "l": a line without its end; "L": with it
---@return string|nil
---@raise an error if the client leaves, sends what cannot be a body, too much or too slowly
function Input:read(what)
  if what == nil then
    return self:_read_all()
  elseif math.type(what) == "integer" and what >= 0 then
    return what == 0 and self:_probe() or what > 0 and self:_read_bytes(what) or nil
  end
  local format = type(what) == "string" and what:gsub("^%*", ""):sub(1, 1)
  if format == "a" then
    return self:_read_all()
  elseif format == "l" or format == "L" then
    return self:_read_line(format == "L")
  end
  error("bad argument #1 to 'read' (invalid format)", 2)
end

--- An iterator over lines, or over what read(what) gives.
---@param what? integer|string  "l" unless given
---@return function
function Input:lines(what)
  return function()
    return self:read(what or "l")
  end
end

--- The fields that came behind a body in chunks, once it was read to its end.
---@return table|nil # as Parser:trailers() of moonlet.llhttp gives them
function Input:trailers()
  return self._trailers or self._done and self._connection and self._connection.parser:trailers()
         or nil
end

-- ---- the end ----

-- Reads and forgets the rest, if it is not too much: false if the connection is of no use then.
function Input:_discard(most)
  if self._connection.broken or self._raw then
    return not self._connection.broken
  end
  local limit = self._received + most
  while not self._done do
    if not self:_next_piece() then
      break
    elseif self._received > limit then
      return false
    end
  end
  return true
end

-- Whether the rest is longer than that, as far as one can know.
function Input:_exceeds(most)
  return not self._done and (self.length or 0) - self._received > most
end

-- The request is over: the connection is another one's.
function Input:_detach()
  self._trailers = self._done and not self.length and self._connection.parser:trailers() or nil
  self._connection = nil
end

-- That of every request without a body.
local EMPTY = setmetatable({ length = 0, _done = true, _piece = "", _at = 1 }, Input)

return { new = new, class = Input, EMPTY = EMPTY }
