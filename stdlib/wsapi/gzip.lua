-- Compression of an application's responses.

local body = require "moonlet.wsapi.body"

-- Below that it does not pay: all goes in one packet anyway.
local MIN_SIZE = 1000

-- ---- whether to compress ----

-- Whether the client takes gzip (RFC 9110, section 12.5.3).
local function accepts(header)
  local found = false
  for name, rest in (header or ""):lower():gmatch("%s*([^,;%s]+)([^,]*)") do
    local quality = tonumber(rest:match(";%s*q=([%d.]+)")) or 1
    if name == "gzip" or name == "x-gzip" then
      return quality > 0
    elseif name == "*" then
      found = quality > 0
    end
  end
  return found
end

-- Types that are text in one way or another.
local function is_compressible(kind)
  return kind:find("^text/") or kind:find("[/+]json") or kind:find("[/+]xml") or
         kind:find("javascript") or kind:find("wasm") or false
end

-- Headers of either form as a list of names and values, and by name in lower case.
local function read(headers)
  local list, by_name = {}, {}
  for name, value in pairs(headers or {}) do
    if type(name) == "number" and type(value) == "table" then
      name, value = value[1], value[2]
    end
    list[#list + 1] = { name, value }
    by_name[tostring(name):lower()] = value
  end
  return list, by_name
end

local BODILESS = { ["204"] = true, ["206"] = true, ["304"] = true }

local function is_wanted(status, headers, answer)
  if answer == nil or type(answer) == "string" and #answer < MIN_SIZE or
     BODILESS[tostring(status):sub(1, 3)] or headers["content-encoding"] then
    return false
  elseif tostring(headers["cache-control"] or ""):lower():find("no-transform", 1, true) then
    return false
  end
  return is_compressible(tostring(headers["content-type"] or ""):lower())
end

-- ---- compressing ----

-- What an iterator gives, compressed piece by piece, so that each can be read when it comes.
local Compressed = {}
Compressed.__index = Compressed

function Compressed:__call()
  if self.ended then
    return nil, self.trailers
  end
  local piece, trailers = self.answer()
  while piece == "" do
    piece, trailers = self.answer()
  end
  if piece then
    return self.deflater:write(tostring(piece), "sync")
  end
  self.ended, self.trailers = true, trailers
  return self.deflater:write("", "finish")
end

function Compressed:close()
  self.deflater:close()
  body.close(self.answer)
end

-- A strong tag would say that the bytes are those of the plain answer.
local function weakened(tag)
  return type(tag) == "string" and tag:sub(1, 2) ~= "W/" and "W/" .. tag or tag
end

-- The headers of an answer that is compressed for some clients, so that caches know; those of the
-- application are left as they are.
local function varied(list)
  local headers = table.move(list, 1, #list, 1, {})
  headers[#headers + 1] = { "Vary", "Accept-Encoding" }
  return headers
end

-- The headers of the compressed answer.
local function changed(list)
  local headers = {}
  for _, pair in ipairs(list) do
    local name = pair[1]:lower()
    if name == "etag" then
      headers[#headers + 1] = { pair[1], weakened(pair[2]) }
    elseif name ~= "content-length" and name ~= "accept-ranges" then
      headers[#headers + 1] = pair
    end
  end
  headers[#headers + 1] = { "Content-Encoding", "gzip" }
  return varied(headers)
end

local function compress(zlib, level, accepted, status, headers, answer)
  local list, by_name = read(headers)
  if type(answer) == "table" then
    answer = body.joined(answer)
  end
  if not is_wanted(status, by_name, answer) then
    return status, headers, answer
  elseif not accepted then
    return status, varied(list), answer
  end
  local deflater = zlib.deflate("gzip", level)
  if type(answer) == "string" then
    answer = deflater:write(answer, "finish")
    deflater:close()
  else
    answer = setmetatable({ answer = answer, deflater = deflater }, Compressed)
  end
  return status, changed(list), answer
end

--- wsapi.gzip(app [, level]): the same application with its responses compressed.
-- That is done for clients that take gzip, and for types of content that are text of some kind:
-- HTML, JSON, SVG ... Pieces of an iterator are compressed one by one, and sent at once as before.
-- Needs moonlet.zlib.
--
-- Secrets should not be compressed together with text that a stranger can choose: the length would
-- give them away.
---@param app function|table|string
---@param level? integer from 1, fast, to 9, small
---@return function
local function gzip(app, level)
  local zlib = require "moonlet.zlib"
  local run = require("moonlet.wsapi.application")(app)
  if not run then
    error(("bad argument #1 to 'gzip' (application expected, got %s)"):format(type(app)), 2)
  end
  return function(env)
    return compress(zlib, level, accepts(env.HTTP_ACCEPT_ENCODING), run(env))
  end
end

return gzip
