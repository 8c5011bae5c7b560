--- The answer to an HTTP request.

local Object = require "moonlet.class"

--- What a server has answered. The body comes as it is read: by read(), body(), or a loop over the
-- response. A response that is not read to its end must be closed, or is when it is collected; it
-- is good for `<close>`.
---@class moonlet.http.Response: moonlet.class.Object
---@field status integer
---@field reason string  the words behind the number
---@field version string  "1.1" or "1.0"
---@field headers table  values by name in lower case; also the list name, value, name, value ...
---@field url string  what was asked for at last, after redirects
local Response = Object:extend("Response")

-- Made by the client only.
function Response:new(fields)
  for name, value in pairs(fields) do
    self[name] = value
  end
  self._buffer = ""
end

-- The body has been read: another request may use the connection.
local function finish(self)
  local connection = self._connection
  self._connection = nil
  if connection then
    self._done(connection, connection.parser:keepalive() and not connection.cut)
  end
end

local function fail(self, message)
  self._failure = message
  self:close()
  return nil, message
end

-- The next piece, decoded; nil at the end; or nil, why.
local function next_piece(self)
  while self._connection do
    local piece, message = self._connection:read_piece(self._deadline)
    if piece == nil then
      return fail(self, message)
    end
    if not piece then
      finish(self)
      if self._inflater and not self._inflated and self._seen then
        return fail(self, "closed")
      end
      return nil
    end
    if self._inflater then
      self._seen = true
      piece, message = self._inflater:write(piece)
      if not piece then
        return fail(self, "invalid content coding: " .. message)
      end
      self._inflated = message
    end
    if piece ~= "" then
      return piece
    end
  end
  return nil, self._failure
end

-- The buffered bytes, or the next piece.
local function take(self)
  local buffer = self._buffer
  if buffer ~= "" then
    self._buffer = ""
    return buffer
  end
  return next_piece(self)
end

--- Reads so many bytes of the body, fewer only at its end; without a number, all that is left.
---@param size? integer
---@return string|nil # nil at the end
---@return string # with nil: "timeout", "closed" (too early) or what else is wrong; nil at the end
function Response:read(size)
  if size ~= nil and (math.type(size) ~= "integer" or size < 0) then
    error("bad argument #1 to 'read' (a number of bytes expected)", 2)
  end
  local parts, count = {}, 0
  while not size or count < size do
    local piece, message = take(self)
    if message then
      self._buffer = table.concat(parts)
      return nil, message
    elseif not piece then
      break
    end
    count = count + #piece
    parts[#parts + 1] = piece
  end
  if count == 0 and size ~= 0 then
    return nil
  end
  local data = table.concat(parts)
  if size and count > size then
    self._buffer = data:sub(size + 1)
    data = data:sub(1, size)
  end
  return data
end

--- The rest of the body as one string.
---@param limit? integer  most bytes
---@return string|nil # "" if nothing is left
---@return string # with nil: "timeout", "closed" (too early), "too long" or what else is wrong
function Response:body(limit)
  local parts, count = {}, 0
  while true do
    local piece, message = take(self)
    if message then
      return nil, message
    elseif not piece then
      return table.concat(parts)
    end
    count = count + #piece
    if limit and count > limit then
      return fail(self, "too long")
    end
    parts[#parts + 1] = piece
  end
end

--- Calling the response gives the next piece of its body, and nil at the end:
--- `for piece in response do`. What goes wrong is raised.
function Response:__call()
  local piece, message = take(self)
  if message then
    error(message, 0)
  end
  return piece
end

--- Ends it: what was not read is lost, and so is the connection.
-- A second call does nothing.
function Response:close()
  local connection = self._connection
  self._connection = nil
  if connection then
    connection:close()
    self._done(connection, false)
  end
  if self._inflater then
    self._inflater:close()
  end
end

Response.__close = Response.close

function Response:__tostring()
  local state = self._failure and "failed" or self._connection and "open" or "read"
  return ("<Response %d, %s>"):format(self.status, state)
end

return Response
