-- WebSocket frames made and taken apart by hand, also wrong ones.

local frames = {}

local OPCODES = { continuation = 0, text = 1, binary = 2, close = 8, ping = 9, pong = 10 }

local function mask(payload, key)
  local bytes = {}
  for i = 1, #payload do
    bytes[i] = string.char(payload:byte(i) ~ key:byte((i - 1) % 4 + 1))
  end
  return table.concat(bytes)
end

local function length_field(length, form)
  if form == 64 or not form and length > 0xFFFF then
    return 127, string.pack(">I8", length)
  elseif form == 16 or not form and length > 125 then
    return 126, string.pack(">I2", length)
  end
  return length, ""
end

--- A frame: opcode (a name or a number), payload; opts: fin (true), rsv (0), mask (a key of four
--- bytes; none), length (a false one), form (16 or 64: of the length).
function frames.make(opcode, payload, opts)
  opts = opts or {}
  payload = payload or ""
  local first = (opts.fin == false and 0 or 0x80) | (opts.rsv or 0) << 4 |
                  (OPCODES[opcode] or opcode)
  local second, extended = length_field(opts.length or #payload, opts.form)
  if opts.mask then
    return string.char(first, second | 0x80) .. extended .. opts.mask .. mask(payload, opts.mask)
  end
  return string.char(first, second) .. extended .. payload
end

--- The payload of a close frame.
function frames.close(code, reason)
  return string.pack(">I2", code) .. (reason or "")
end

--- The frame at `from`: { fin =, rsv =, opcode =, masked =, payload = } and where the next begins.
function frames.parse(bytes, from)
  from = from or 1
  local first, second = bytes:byte(from, from + 1)
  local at, length = from + 2, second & 0x7F
  if length == 126 then
    length, at = string.unpack(">I2", bytes, at)
  elseif length == 127 then
    length, at = string.unpack(">I8", bytes, at)
  end
  local key
  if second & 0x80 ~= 0 then
    key, at = bytes:sub(at, at + 3), at + 4
  end
  local payload = bytes:sub(at, at + length - 1)
  assert(#payload == length, "incomplete frame")
  return {
    fin = first & 0x80 ~= 0,
    rsv = first >> 4 & 7,
    opcode = first & 15,
    masked = key ~= nil,
    payload = key and mask(payload, key) or payload,
  }, at + length
end

--- All frames in a string.
function frames.parse_all(bytes)
  local list, at = {}, 1
  while at <= #bytes do
    list[#list + 1], at = frames.parse(bytes, at)
  end
  return list
end

return frames
