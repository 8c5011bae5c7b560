-- A small name server on a port of 127.0.0.1, over UDP and TCP, that answers from a table.

local moonlet = require "moonlet"
local select = require "moonlet.select"
local socket = require "socket"

local TYPES = { A = 1, CNAME = 5, PTR = 12, AAAA = 28 }
local NAMES = {}
for name, number in pairs(TYPES) do
  NAMES[number] = name
end

local HEADER = ">I2I2I2I2I2I2"

-- ---- messages ----

local function pack_name(name)
  return (name:gsub("([^.]+)%.?", function(label)
    return string.pack("s1", label)
  end)) .. "\0"
end

local function pack_address(text)
  if text:find("%.") then
    return (text:gsub("(%d+)%.?", function(byte)
      return string.char(tonumber(byte))
    end))
  end
  local left, right = text:match("^(.*)::(.*)$")
  local function words(part)
    return (part:gsub("(%x+):?", function(word)
      return string.pack(">I2", tonumber(word, 16))
    end))
  end
  left, right = words(left), words(right)
  return left .. ("\0"):rep(16 - #left - #right) .. right
end

local function pack_record(record)
  local is_name = record.type == "CNAME" or record.type == "PTR"
  local data = is_name and pack_name(record.data) or pack_address(record.data)
  return pack_name(record.name) .. string.pack(">I2I2I4s2", TYPES[record.type], 1, 60, data)
end

-- The question of a query: its name, the type, and where it ends.
local function unpack_question(query)
  local labels, position = {}, 13
  while query:byte(position) ~= 0 do
    labels[#labels + 1], position = string.unpack("s1", query, position)
  end
  local number = string.unpack(">I2", query, position + 1)
  return table.concat(labels, "."), NAMES[number] or tostring(number), position + 4
end

local function pack_answer(query, reply, truncated)
  local id = string.unpack(">I2", query)
  local _, _, last = unpack_question(query)
  local records = truncated and {} or reply
  local parts = {
    string.pack(HEADER, id, 0x8580 + (truncated and 0x200 or 0) + (reply.rcode or 0), 1, #records,
                0, 0),
    query:sub(13, last),
  }
  for _, record in ipairs(records) do
    parts[#parts + 1] = pack_record(record)
  end
  return table.concat(parts)
end

-- ---- the server ----

local Server = {}
Server.__index = Server

-- What the zone has for a name: a list of records, a failure, or a function that makes one of
-- them and may block; false: no answer at all.
local function look_up(self, name, kind)
  local entry = self.zone[name:lower()]
  if entry == nil then
    return { rcode = 3 }
  end
  if type(entry) == "function" then
    entry = entry(kind)
  end
  if not entry then
    return nil
  end
  local reply = { rcode = entry.rcode, truncated = entry.truncated }
  for _, record in ipairs(entry) do
    if record.type == kind or record.type == "CNAME" then
      reply[#reply + 1] = { name = record.name or name, type = record.type, data = record.data }
    end
  end
  return reply
end

function Server:_spawn(f, ...)
  self.greenlets[#self.greenlets + 1] = moonlet.spawn(f, ...)
end

function Server:_answer(query, send, may_truncate)
  local name, kind = unpack_question(query)
  self.asked[#self.asked + 1] = name .. " " .. kind
  local reply = look_up(self, name, kind)
  if reply then
    send(pack_answer(query, reply, may_truncate and reply.truncated))
  end
end

function Server:_serve_udp()
  while true do
    select.select({ self.udp })
    local query, host, port = self.udp:receivefrom()
    if query then
      self:_spawn(self._answer, self, query, function(answer)
        self.udp:sendto(answer, host, port)
      end, true)
    end
  end
end

local function receive(client, size)
  local data = ""
  while #data < size do
    select.select({ client })
    local whole, _, part = client:receive(size - #data)
    data = data .. (whole or part)
  end
  return data
end

function Server:_serve_tcp()
  while true do
    select.select({ self.tcp })
    local client = self.tcp:accept()
    if client then
      client:settimeout(0)
      self.clients[#self.clients + 1] = client
      self:_spawn(function()
        local query = receive(client, string.unpack(">I2", receive(client, 2)))
        self:_answer(query, function(answer)
          client:send(string.pack(">s2", answer))
        end)
      end)
    end
  end
end

function Server:__close()
  for _, greenlet in ipairs(self.greenlets) do
    greenlet:kill()
  end
  for _, client in ipairs(self.clients) do
    client:close()
  end
  self.udp:close()
  self.tcp:close()
end

local nameserver = {}

--- Starts one for a zone: name -> list of { type =, data = } that may have `rcode` and `truncated`
--- (over UDP), or a function(type) that returns such a list after some time; false: no answer.
--- Returns a `<close>` variable with `address`, and the queries that came in `asked`.
function nameserver.start(zone)
  local self = setmetatable({ zone = zone, greenlets = {}, clients = {}, asked = {} }, Server)
  repeat
    self.tcp = assert(socket.bind("127.0.0.1", 0))
    local _, port = self.tcp:getsockname()
    self.udp = socket.udp()
    self.address = "127.0.0.1:" .. port
    local bound = self.udp:setsockname("127.0.0.1", tonumber(port))
    if not bound then
      self.tcp:close()
      self.udp:close()
    end
  until bound
  self.tcp:settimeout(0)
  self.udp:settimeout(0)
  self:_spawn(self._serve_udp, self)
  self:_spawn(self._serve_tcp, self)
  return self
end

return nameserver
