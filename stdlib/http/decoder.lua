-- Content codings: bodies that come packed.

local Decoder = {}
Decoder.__index = Decoder

-- So many packed bytes are unpacked at a time: they become 1032 times as many at most, and only a
-- reader who asks for more gets more.
local STEP = 1024

local FORMATS = { gzip = "gzip", ["x-gzip"] = "gzip", deflate = "zlib" }

local is_there = pcall(require, "moonlet.zlib")

-- Whether bodies can be unpacked: zlib is there.
function Decoder.is_there()
  return is_there
end

-- A decoder for a value of Content-Encoding; nil if that is unknown, or nothing.
function Decoder.new(coding)
  local format = coding and FORMATS[coding:lower()]
  return format and setmetatable({ format = format, packed = "", at = 1 }, Decoder)
end

-- Servers that say deflate mean zlib's format, or none around the data.
local function choose_format(self)
  local first, second = self.packed:byte(1, 2)
  if self.format == "zlib" and second then
    local is_zlib = first & 15 == 8 and (first << 8 | second) % 31 == 0
    return is_zlib and "zlib" or "raw"
  end
  return self.format
end

-- Takes more packed bytes; those before must have been used up.
function Decoder:feed(data)
  self.packed, self.at = self.packed:sub(self.at) .. data, 1
end

-- What follows a member of gzip's is another one; all else is padding.
local function go_on(self, rest)
  self.at = self.at - #rest
  if self.format ~= "gzip" or self.packed:byte(self.at) ~= 0x1f then
    self.ended = true
  end
  self.inflater:close()
  self.inflater = nil
end

-- The next bytes; "" when it needs more; nil and why it cannot go on.
function Decoder:read()
  while self.at <= #self.packed and not self.ended do
    if not self.inflater then
      if #self.packed - self.at < 1 then
        return "" -- the first two bytes tell the format
      end
      self.inflater = require("moonlet.zlib").inflate(choose_format(self))
    end
    local piece = self.packed:sub(self.at, self.at + STEP - 1)
    self.at = self.at + #piece
    local data, ended, rest = self.inflater:write(piece)
    if not data then
      return nil, "invalid content coding: " .. ended
    elseif ended then
      go_on(self, rest)
    end
    if data ~= "" then
      return data
    end
  end
  return ""
end

-- Whether the packed data may end here: complete, or none at all.
function Decoder:is_complete()
  return self.ended or not self.inflater and self.at > #self.packed
end

function Decoder:close()
  if self.inflater then
    self.inflater:close()
  end
end

return Decoder
