-- The client's half of the opening handshake (RFC 6455, section 4.1).

local core = require "moonlet.wslay.core"
local deflate = require "moonlet.websocket.deflate"
local fields = require "moonlet.websocket.fields"
local llhttp = require "moonlet.llhttp"

local client = {}

-- ---- where to ----

local DEFAULT_PORTS = { ws = 80, wss = 443 }

-- A URL's parts: { secure =, host =, port =, authority = (for Host), target = }; nil and what
-- is wrong with it.
function client.parse_url(url)
  local scheme, authority, target = url:match("^(%a+)://([^/?#]*)([^#]*)$")
  scheme = scheme and scheme:lower()
  if not DEFAULT_PORTS[scheme] then
    return nil, "expected ws://host... or wss://host..., without a fragment"
  elseif authority:find("@", 1, true) then
    return nil, "a user in the URL; give a header Authorization"
  elseif url:find("[%c%s\127-\255]") then
    return nil, "characters that have to be written as %XX"
  end
  local host, port = authority:match("^%[([%x:.]+)%]:?(%d*)$")
  if not host then
    host, port = authority:match("^([^:%[%]]+):?(%d*)$")
  end
  port = port == "" and DEFAULT_PORTS[scheme] or math.tointeger(tonumber(port))
  if not host or not port or port > 65535 then
    return nil, "bad host or port"
  end
  return {
    secure = scheme == "wss",
    host = host,
    port = port,
    authority = authority:gsub(":$", ""),
    target = target:find("^/") and target or "/" .. target,
  }
end

-- ---- the request ----

-- The handshake's own.
local RESERVED = { upgrade = true, connection = true }

local function add_headers(lines, headers)
  local has_host = false
  for name, value in pairs(headers or {}) do
    if type(name) == "number" then
      name, value = value[1], value[2]
    end
    value = tostring(value)
    local lower = name:lower()
    if RESERVED[lower] or lower:find("^sec%-websocket") or not fields.is_token(name) or
      not fields.is_value(value) then
      return nil, ("bad header field '%s'"):format(name)
    end
    has_host = has_host or lower == "host"
    lines[#lines + 1] = ("%s: %s"):format(name, value)
  end
  return true, has_host
end

-- The request and its key; nil and what is wrong with the options.
function client.request(where, opts)
  local key = core.key()
  local lines = {
    ("GET %s HTTP/1.1"):format(where.target),
    "Upgrade: websocket",
    "Connection: Upgrade",
    "Sec-WebSocket-Key: " .. key,
    "Sec-WebSocket-Version: 13",
  }
  for _, protocol in ipairs(opts.protocols or {}) do
    if type(protocol) ~= "string" or not fields.is_token(protocol) then
      return nil, "bad protocol"
    end
  end
  if opts.protocols and opts.protocols[1] then
    lines[#lines + 1] = "Sec-WebSocket-Protocol: " .. table.concat(opts.protocols, ", ")
  end
  if opts.compress then
    lines[#lines + 1] = "Sec-WebSocket-Extensions: " .. deflate.offer(opts.compress)
  end
  if opts.origin then
    if not fields.is_value(opts.origin) then
      return nil, "bad origin"
    end
    lines[#lines + 1] = "Origin: " .. opts.origin
  end
  local ok, has_host = add_headers(lines, opts.headers)
  if not ok then
    return nil, has_host
  end
  if not has_host then
    table.insert(lines, 2, "Host: " .. where.authority)
  end
  return table.concat(lines, "\r\n") .. "\r\n\r\n", key
end

-- ---- the answer ----

-- Reads the head of the answer from a stream: a parser, and the bytes behind the head; nil
-- and why not.
function client.read_answer(stream)
  local parser = llhttp.new("response")
  while true do
    local bytes, why = stream:recv()
    if not bytes then
      return nil, why == "closed" and "closed before the server answered" or why
    end
    local at = 1
    repeat
      local event, next, word = parser:execute(bytes, at)
      if not event then
        return nil, ("no HTTP: %s"):format(next or word)
      elseif event == "headers" and (parser:status() >= 200 or parser:status() == 101) then
        return parser, bytes:sub(next)
      end
      at = next
    until event == "more"
  end
end

local function check_protocol(answer, offered)
  if not answer then
    return true
  end
  for _, protocol in ipairs(offered or {}) do
    if protocol == answer then
      return true
    end
  end
  return nil, ("the server chose a protocol that was not offered: %s"):format(answer)
end

-- What an answer means: options of the codec for compression, or false; nil, what is wrong
-- with it, and its status.
function client.check(parser, key, opts)
  local status, headers = parser:status(), parser:headers()
  local function refuse(message)
    return nil, message, status
  end
  if status ~= 101 then
    return refuse(("the server answered %d %s"):format(status, parser:reason()))
  elseif (headers.upgrade or ""):lower() ~= "websocket" or
    not fields.has(headers.connection, "upgrade") then
    return refuse("the server switched to something else")
  elseif headers["sec-websocket-accept"] ~= core.accept(key) then
    return refuse("wrong Sec-WebSocket-Accept")
  end
  local ok, problem = check_protocol(headers["sec-websocket-protocol"], opts.protocols)
  if not ok then
    return refuse(problem)
  end
  local compression
  compression, problem = deflate.check(headers["sec-websocket-extensions"], opts.compress)
  if compression == nil then
    return refuse(problem)
  end
  return compression
end

return client
