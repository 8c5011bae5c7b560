-- Reads the parts of a multipart/form-data body as they come, in little memory.

local PIECE = 65536 -- bytes that are read at a time
local MAX_HEAD = 8192 -- of a part's head

local Reader = {}
Reader.__index = Reader

local function fail(problem)
  error({ problem = problem }, 0)
end

--- A reader; read(n) gives up to n bytes of the body, and nil at its end. What is wrong with the
--- body is raised as a table with a field `problem`.
local function new(read, boundary)
  return setmetatable({
    read = read,
    delimiter = "\r\n--" .. boundary,
    buffer = "\r\n", -- so that the first delimiter is one like the others
    inside = true,   -- of a part, or of what is before the first one
  }, Reader)
end

function Reader:_fill()
  local piece = self.read(PIECE) or fail("the body is incomplete")
  self.buffer = self.buffer .. piece
end

-- Takes so many bytes from the buffer.
function Reader:_take(count)
  while #self.buffer < count do
    self:_fill()
  end
  local bytes = self.buffer:sub(1, count)
  self.buffer = self.buffer:sub(count + 1)
  return bytes
end

-- Behind a part there is another one, or the end.
function Reader:_end_part()
  local mark = self:_take(#self.delimiter + 2):sub(-2)
  if mark ~= "\r\n" and mark ~= "--" then
    fail("no part where one was expected")
  end
  self.inside, self.last = false, mark == "--"
end

--- The next piece of the current part's content, nil at its end.
function Reader:content()
  while self.inside do
    local at = self.buffer:find(self.delimiter, 1, true)
    local sure = at and at - 1 or #self.buffer - #self.delimiter + 1
    if sure > 0 then
      return self:_take(sure)
    elseif at then
      self:_end_part()
    else
      self:_fill()
    end
  end
end

local function parse_head(head)
  local disposition = head:match("\r\n[Cc]ontent%-[Dd]isposition:([^\r]*)") or ""
  return { name = disposition:match('[%s;]name="([^"]*)"'),
           filename = disposition:match('[%s;]filename="([^"]*)"') }
end

--- The next part: its `name`, and its `filename` if it is a file; nil if there is none.
function Reader:part()
  repeat until not self:content()
  if self.last then
    return nil
  end
  self.buffer = "\r\n" .. self.buffer -- so that every field begins behind one
  local _, last = self.buffer:find("\r\n\r\n", 1, true)
  while not last do
    if #self.buffer > MAX_HEAD then
      fail("the head of a part is too long")
    end
    self:_fill()
    _, last = self.buffer:find("\r\n\r\n", 1, true)
  end
  self.inside = true
  return parse_head(self:_take(last))
end

return { new = new }
