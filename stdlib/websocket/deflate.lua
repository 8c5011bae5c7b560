-- What both ends agree on about permessage-deflate (RFC 7692).

local fields = require "moonlet.websocket.fields"

local deflate = {}

local NAME = "permessage-deflate"
local FLAGS = { server_no_context_takeover = true, client_no_context_takeover = true }
local BITS = { server_max_window_bits = true, client_max_window_bits = true }

local function to_bits(value)
  local bits = type(value) == "string" and value:find("^[1-9]%d?$") and math.tointeger(value)
  return bits and bits >= 8 and bits <= 15 and bits or nil
end

-- The parameters of an offer or an answer by name; nothing if one is unknown, twice or wrong.
local function read(extension, may_be_bare)
  local params = {}
  for _, parameter in ipairs(extension) do
    local name, value = parameter[1], parameter[2]
    local bare = value == true
    if params[name] then
      return nil
    elseif FLAGS[name] then
      params[name] = bare or nil
    elseif BITS[name] then
      params[name] = to_bits(value) or bare and name == may_be_bare
    end
    if not params[name] then
      return nil
    end
  end
  return params
end

local function codec_options(compress, own, peer)
  return {
    out_bits = own.bits, out_reset = own.reset, in_bits = peer.bits, in_reset = peer.reset,
    level = compress.level, memory = compress.memory, threshold = compress.threshold,
  }
end

-- What a server makes of one offer: options of the codec, and the answer.
local function accept_offer(params, compress)
  local answer = { NAME }
  local function say(condition, format, ...)
    if condition then
      answer[#answer + 1] = format:format(...)
    end
  end
  local own = {
    bits = math.min(compress.window_bits, params.server_max_window_bits or 15),
    reset = params.server_no_context_takeover or not compress.context_takeover,
  }
  local asked = params.client_max_window_bits
  local peer = {
    bits = asked and math.min(compress.window_bits, asked == true and 15 or asked) or 15,
    reset = params.client_no_context_takeover or not compress.context_takeover,
  }
  say(own.reset, "server_no_context_takeover")
  say(peer.reset, "client_no_context_takeover")
  say(own.bits < 15 or params.server_max_window_bits, "server_max_window_bits=%d", own.bits)
  say(peer.bits < 15, "client_max_window_bits=%d", peer.bits)
  return codec_options(compress, own, peer), table.concat(answer, "; ")
end

-- A server's choice among a client's offers: options of the codec and the answer; nothing if
-- none will do.
function deflate.choose(offers, compress)
  for _, extension in ipairs(offers) do
    local params = extension.name == NAME and read(extension, "client_max_window_bits")
    if params then
      return accept_offer(params, compress)
    end
  end
  return nil
end

-- A client's offer.
function deflate.offer(compress)
  local offer = { NAME }
  if not compress.context_takeover then
    offer[#offer + 1] = "server_no_context_takeover; client_no_context_takeover"
  end
  if compress.window_bits < 15 then
    offer[#offer + 1] = ("server_max_window_bits=%d"):format(compress.window_bits)
    offer[#offer + 1] = ("client_max_window_bits=%d"):format(compress.window_bits)
  else
    offer[#offer + 1] = "client_max_window_bits"
  end
  return table.concat(offer, "; ")
end

-- What a client makes of a server's answer: options of the codec, or nothing if there is no
-- compression; nil and what is wrong with it.
function deflate.check(value, compress)
  local list = fields.extensions(value)
  if not list then
    return nil, "malformed Sec-WebSocket-Extensions"
  elseif #list == 0 then
    return false
  end
  local params = compress and #list == 1 and list[1].name == NAME and read(list[1])
  local most = compress and compress.window_bits
  if not params or (params.client_max_window_bits or 8) > most or
    (params.server_max_window_bits or 8) > most then
    return nil, ("the server answers with extensions that were not offered: %s"):format(value)
  end
  return codec_options(compress, {
    bits = params.client_max_window_bits or most,
    reset = params.client_no_context_takeover or not compress.context_takeover,
  }, {
    bits = params.server_max_window_bits or 15,
    reset = params.server_no_context_takeover,
  })
end

return deflate
