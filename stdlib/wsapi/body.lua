-- The body of a response: what the application may return, and how it is sent.

local core = require "moonlet.wsapi.core"

local send = require("moonlet.socket.core").Stream.send
local type = type

local body = {}

-- ---- files ----

-- A part of a file as a body: sent by the kernel where that can be.
local File = {}
File.__index = File
File.__name = "moonlet.wsapi.File"

local PIECE = 65536

function File:__call()
  local piece = self.count > 0 and self.file:read(math.min(self.count, PIECE))
  self.count = piece and self.count - #piece or 0
  return piece or nil
end

function File:close()
  self.file:close()
end

-- `count` bytes of a Lua file from `offset` on; the body closes it.
function body.file(file, offset, count)
  file:seek("set", offset)
  return setmetatable({ file = file, offset = offset, count = count }, File)
end

-- ---- kinds ----

local function is_callable(value)
  local meta = getmetatable(value)
  return type(value) == "function" or type(meta) == "table" and meta.__call ~= nil
end

local function join(list)
  for i, piece in ipairs(list) do
    if type(piece) ~= "string" and type(piece) ~= "number" then
      error(("the body's piece #%d is a %s and no string"):format(i, type(piece)), 0)
    end
  end
  return table.concat(list)
end

-- A list of strings as one; anything else as it is.
function body.joined(list)
  return is_callable(list) and list or join(list)
end

-- Tells a body that it is not needed any more.
function body.close(answer)
  local kind = type(answer)
  if kind ~= "table" and kind ~= "userdata" then
    return
  end
  local meta = getmetatable(answer)
  local close = meta and meta.__close
  if kind == "table" or meta and meta.__index then
    close = answer.close or close
  end
  if close then
    close(answer)
  end
end

-- ---- sending ----

local function check_piece(piece)
  if type(piece) == "string" then
    return piece
  elseif type(piece) == "number" then
    return tostring(piece)
  end
  error(("a response's iterator gave a %s and no string"):format(type(piece)), 0)
end

local function checked(answer)
  if not is_callable(answer) then
    error(("a response's body must be a string, a list of strings or an iterator (got %s)")
          :format(type(answer)), 0)
  end
  return answer
end

-- How much of a piece has gone out, when `last` bytes of the text that ends with it have.
local function counted(last, before, piece)
  return math.max(math.min((last or 0) - before, #piece), 0)
end

-- What an iterator gives, each piece as a chunk of its own at once.
local function send_chunked(connection, head, code)
  local sock, answer = connection.sock, checked(connection.body)
  local piece, trailers = answer()
  while piece do
    piece = check_piece(piece)
    if piece ~= "" then
      connection.status = code
      local frame = ("%s%x\r\n"):format(head, #piece)
      local ok, _, last = send(sock, frame .. piece .. "\r\n")
      connection.sent = connection.sent + (ok and #piece or counted(last, #frame, piece))
      if not ok then
        return false
      end
      head = ""
    end
    piece, trailers = answer()
  end
  local fields = trailers and core.fields(trailers) or ""
  connection.status = code
  return send(sock, head .. "0\r\n" .. fields .. "\r\n")
end

-- The same without chunks: so many bytes, or all there are.
local function send_plain(connection, head, code, length)
  local sock, answer = connection.sock, checked(connection.body)
  local piece = answer()
  while piece do
    piece = check_piece(piece)
    if length and connection.sent + #piece > length then
      error(("a response's body is longer than its Content-Length, %d"):format(length), 0)
    elseif piece ~= "" then
      connection.status = code
      local ok, _, last = send(sock, head .. piece)
      connection.sent = connection.sent + (ok and #piece or counted(last, #head, piece))
      if not ok then
        return false
      end
      head = ""
    end
    piece = answer()
  end
  if length and connection.sent < length then
    error(("a response's body is shorter than its Content-Length, %d"):format(length), 0)
  end
  connection.status = code
  return head == "" or send(sock, head)
end

-- By the kernel; short ones go along with the head.
local function send_file(connection, head, code, length)
  local sock, part = connection.sock, connection.body
  if part.count <= PIECE or length ~= part.count or connection.server.secure then
    return send_plain(connection, head, code, length)
  end
  connection.status = code
  if not send(sock, head) then
    return false
  end
  local sent, _, partly = sock:sendfile(part.file, part.offset, part.count)
  connection.sent = sent or partly or 0
  if sent and sent < length then
    error("a file has become shorter while it was sent", 0)
  end
  return sent
end

-- For a status that has no body: the iterator may give nothing.
local function check_empty(answer, code)
  local piece = checked(answer)()
  while piece == "" do
    piece = answer()
  end
  if piece then
    error(("a response of status %d has no body"):format(code), 0)
  end
end

-- Sends the connection's body behind the head; false if the client is gone.
function body.send(connection, head, follows, length, code)
  if follows == "chunked" then
    return send_chunked(connection, head, code)
  elseif follows == "none" then
    if code == 204 or code == 304 then
      check_empty(connection.body, code)
    end
    connection.status = code
    return send(connection.sock, head)
  elseif follows == "length" then
    local send_body = getmetatable(connection.body) == File and send_file or send_plain
    return send_body(connection, head, code, length)
  elseif follows == "close" then
    connection.until_close = true
  elseif follows == "raw" then
    connection.status = code
    if not send(connection.sock, head) then
      return false
    end
    head = ""
  end
  return send_plain(connection, head, code, nil)
end

body.check_piece, body.checked, body.check_empty = check_piece, checked, check_empty

return body
