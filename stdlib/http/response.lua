-- The answer to an HTTP request.

local Decoder = require "moonlet.http.decoder"
local Object = require "moonlet.class"

--- What a server has answered. The body comes as it is read: by read(), body(), or a loop over the
-- response, `for piece in response do`. Who does not read it to its end closes the response; as a
-- `<close>` variable it is closed.
---@class moonlet.http.Response: moonlet.class.Object
---@field status integer
---@field reason string  the words behind the number; "" with HTTP/2
---@field version string  "1.1", "1.0" or "2"
---@field headers table  values by name, in any case (pairs has lower case); also the list name,
--   value, name, value ...
---@field trailers table  fields that came behind the body, in the same form
---@field url string  what was asked for at last, after redirections
local Response = Object:extend("Response")

-- Names of fields are the same in any case.
local Fields = {
  __index = function(fields, name)
    return type(name) == "string" and rawget(fields, name:lower()) or nil
  end,
}

-- Takes what has come already: most connections are free before the body is read.
local function prefetch(self)
  while self._lease do
    local piece, more = self._lease.carrier:read_piece(nil, true)
    if more == true then
      return
    elseif piece then
      table.insert(self._raw, piece)
    elseif piece == nil then
      self._problem = more
      self._lease:close()
      self._lease = nil
    else
      self:_finish()
    end
  end
end

-- Made by the client, of a lease whose carrier has read a head.
function Response:new(lease, request, address, due)
  local answer = lease.carrier:answer()
  self.status = answer.status
  self.reason = answer.reason
  self.version = answer.version
  self.headers = setmetatable(answer.headers, Fields)
  self.trailers = {}
  self.url = address
  self._lease, self._due = lease, due
  self._decoder = request.decode and Decoder.new(self.headers["content-encoding"]) or nil
  self._raw = {} -- pieces that came with the head
  self._pieces, self._first, self._last = {}, 1, 0 -- pieces that were read and not taken yet
  self._at, self._size = 1, 0 -- the next byte of the first one; the number of bytes in all
  if self.status ~= 101 then
    prefetch(self)
  end
end

-- ---- from the connection ----

-- The body has been read: another request may use the connection.
function Response:_finish()
  local lease = self._lease
  self._lease = nil
  self.trailers = setmetatable(lease.carrier:trailers(), Fields)
  lease:finish()
end

-- Ends it for a reason, which every later call tells again.
local function fail(self, message, raised)
  self:close()
  self._failure, self._failed = message, true
  if raised then
    error(raised[1], 0)
  end
  return nil, message
end

-- The next piece as it was sent; false at the end; or nil, why.
local function next_raw(self)
  if #self._raw > 0 then
    return table.remove(self._raw, 1)
  elseif self._problem then
    return fail(self, self._problem)
  elseif not self._lease or self.status == 101 then
    return false
  end
  local carrier = self._lease.carrier
  local piece, message = carrier:read_piece(self._due)
  if piece == nil then
    return fail(self, message, carrier.raised)
  elseif not piece then
    self:_finish()
  end
  return piece
end

-- The same, unpacked.
local function next_unpacked(self)
  local decoder = self._decoder
  while true do
    local data, message = decoder:read()
    if not data then
      return fail(self, message)
    elseif data ~= "" then
      return data
    end
    local piece
    piece, message = next_raw(self)
    if piece == nil then
      return nil, message
    elseif piece then
      decoder:feed(piece)
    elseif decoder:is_complete() then
      return false
    else
      return fail(self, "closed")
    end
  end
end

local function next_piece(self)
  if self._failure then
    return nil, self._failure
  end
  return (self._decoder and next_unpacked or next_raw)(self)
end

-- ---- to the reader ----

-- Reads on until there are so many bytes (nil: all of them), or the body ends: true; or nil, why.
local function fill(self, size)
  while not size or self._size < size do
    local piece, message = next_piece(self)
    if piece == nil then
      return nil, message
    elseif not piece then
      break
    end
    self._last = self._last + 1
    self._pieces[self._last] = piece
    self._size = self._size + #piece
  end
  return true
end

-- Up to so many bytes of the first piece.
local function take_first(self, size)
  local piece = self._pieces[self._first]
  local data = piece:sub(self._at, self._at + size - 1)
  self._at = self._at + #data
  self._size = self._size - #data
  if self._at > #piece then
    self._pieces[self._first] = nil
    self._first, self._at = self._first + 1, 1
  end
  return data
end

-- So many bytes, or all there are.
local function take(self, size)
  local parts = {}
  while size > 0 and self._size > 0 do
    local data = take_first(self, size)
    parts[#parts + 1] = data
    size = size - #data
  end
  return table.concat(parts)
end

local function check_size(value, name)
  if value ~= nil and (not math.tointeger(value) or value < 0) then
    error(("bad argument #1 to '%s' (a number of bytes expected)"):format(name), 3)
  end
end

--- Reads so many bytes of the body, fewer only at its end; without a number, all that is left.
---@param size? integer
---@return string|nil # nil at the end
---@return string # with nil: "timeout", "closed" (too early) or what else is wrong; nil at the end
---@return string # with these: what has come all the same
function Response:read(size)
  check_size(size, "read")
  local ok, message = fill(self, size)
  if not ok then
    return nil, message, take(self, self._size)
  elseif self._size == 0 and size ~= 0 then
    return nil
  end
  return take(self, size or self._size)
end

--- The rest of the body as one string.
---@param limit? integer  most bytes, of a packed body after it was unpacked
---@return string|nil # "" if nothing is left
---@return string # with nil: "timeout", "closed" (too early), "too long" or what else is wrong
---@return string # with these: what has come all the same
function Response:body(limit)
  check_size(limit, "body")
  local ok, message = fill(self, limit and limit + 1)
  if ok and limit and self._size > limit then
    ok, message = fail(self, "too long")
  end
  if not ok then
    return nil, message, take(self, self._size)
  end
  return take(self, self._size)
end

--- Calling the response gives the next piece of its body, and nil at the end. What goes wrong is
-- raised.
function Response:__call()
  local ok, message = fill(self, 1)
  if not ok and self._size == 0 then
    error(message, 0)
  end
  return self._size > 0 and take_first(self, self._size) or nil
end

-- ---- its end ----

-- Reads it to its end, if that is near, so that its connection can be used again; else ends it.
function Response:_discard(limit, due)
  local length = tonumber(self.headers["content-length"])
  self._decoder = nil
  if not length or length <= limit then
    self._due = due
    self:body(limit)
  end
  self:close()
end

--- Ends it: what was not read is lost, and so is the connection. A second call does nothing.
function Response:close()
  local lease = self._lease
  self._lease = nil
  if lease then
    self._failure = self._failure or "closed"
    lease:close()
  end
  if self._decoder then
    self._decoder:close()
  end
end

Response.__close = Response.close
Response.__gc = Response.close

--- After status 101 the connection speaks another protocol, and is the caller's.
---@return moonlet.socket.Stream
---@return string # what has come already
---@raise an error for another status, or a second time
function Response:detach()
  local lease = self._lease
  if self.status ~= 101 or not lease then
    error("the response has no connection to give away", 2)
  end
  self._lease = nil
  local connection = lease.carrier
  lease.carrier = nil
  lease:close()
  return connection.stream, connection.data:sub(connection.at)
end

function Response:__tostring()
  local state = self._failed and "failed" or self._failure and "closed" or
                  self._lease and "open" or "read"
  return ("<Response %d, %s>"):format(self.status, state)
end

return Response
