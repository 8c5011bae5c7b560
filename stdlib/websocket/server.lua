-- The server's half of the opening handshake (RFC 6455, section 4.2).

local core = require "moonlet.wslay.core"
local deflate = require "moonlet.websocket.deflate"
local fields = require "moonlet.websocket.fields"

local server = {}

-- ---- what is asked ----

-- Why a request cannot be answered: nil, message, status and header fields of the response.
local function refuse(message, status, ...)
  return nil, message, status or 400, { ... }
end

local UPGRADE, CONNECTION = { "Upgrade", "websocket" }, { "Connection", "Upgrade" }
local VERSION, ALLOW = { "Sec-WebSocket-Version", "13" }, { "Allow", "GET" }

local function check_request(request)
  local header = request.header
  if request.method ~= "GET" then
    return refuse("a WebSocket is opened by GET", 405, ALLOW)
  elseif not fields.has(header("upgrade"), "websocket") or
    not fields.has(header("connection"), "upgrade") then
    return refuse("no upgrade to WebSocket", 426, UPGRADE, CONNECTION)
  elseif (tonumber(request.version:match("[%d.]+$")) or 0) < 1.1 then
    return refuse("a WebSocket needs HTTP/1.1")
  elseif header("transfer-encoding") or (header("content-length") or "0") ~= "0" then
    return refuse("a request for a WebSocket has no body")
  elseif header("sec-websocket-version") ~= "13" then
    return refuse("unknown version of WebSocket", 426, VERSION, UPGRADE, CONNECTION)
  elseif not core.is_key(header("sec-websocket-key") or "") then
    return refuse("bad Sec-WebSocket-Key")
  end
  return true
end

-- ---- whence ----

local DEFAULT_PORTS = { http = "80", https = "443" }

-- Whether a page of that origin came from the host that is asked.
local function is_same_host(origin, host)
  local scheme, where = origin:match("^(https?)://([^/]+)$")
  if not scheme or not host then
    return false
  end
  local function with_port(text)
    return text:find(":%d+$") and text or text .. ":" .. DEFAULT_PORTS[scheme]
  end
  return with_port(where:lower()) == with_port(host:lower())
end

local function contains(list, value)
  for _, element in ipairs(list) do
    if element == value then
      return true
    end
  end
  return false
end

-- Only browsers send an origin; they would let any page open a connection, with its user's cookies.
local function is_welcome(origin, rule, host)
  if type(rule) == "function" then
    return rule(origin)
  elseif rule == false or not origin then
    return true
  elseif rule == nil then
    return is_same_host(origin, host)
  end
  return contains(type(rule) == "table" and rule or { rule }, origin)
end

-- ---- what is agreed on ----

-- The first of the client's protocols that is among ours.
local function choose_protocol(offered, ours)
  if type(ours) == "function" then
    return ours(offered)
  end
  for _, protocol in ipairs(offered) do
    if contains(ours or {}, protocol) then
      return protocol
    end
  end
  return nil
end

local function read_protocols(value)
  local seen, list = {}, fields.elements(value)
  for _, protocol in ipairs(list) do
    if seen[protocol] or not fields.is_token(protocol) then
      return nil
    end
    seen[protocol] = true
  end
  return list
end

local function add_headers(lines, headers)
  for name, value in pairs(headers or {}) do
    if type(name) == "number" then
      name, value = value[1], value[2]
    end
    value = tostring(value)
    if not fields.is_token(name) or not fields.is_value(value) then
      error(("bad header field '%s'"):format(name), 0)
    end
    lines[#lines + 1] = ("%s: %s"):format(name, value)
  end
end

-- Whether a request asks for a WebSocket, and how: { key =, protocols =, extensions = }; nil,
-- message, status and header fields of the response that refuses it.
function server.check(request)
  local ok, message, status, headers = check_request(request)
  if not ok then
    return nil, message, status, headers
  end
  local protocols = read_protocols(request.header("sec-websocket-protocol"))
  if not protocols then
    return refuse("bad Sec-WebSocket-Protocol")
  end
  local extensions = fields.extensions(request.header("sec-websocket-extensions"))
  if not extensions then
    return refuse("bad Sec-WebSocket-Extensions")
  end
  return {
    key = request.header("sec-websocket-key"),
    origin = request.header("origin"),
    host = request.header("host"),
    protocols = protocols,
    extensions = extensions,
  }
end

-- Whether a page of its origin may open it; nil, message, status, header fields.
function server.check_origin(asked, opts)
  if is_welcome(asked.origin, opts.origin, asked.host) then
    return true
  end
  return refuse("origin not allowed", 403)
end

-- The response that opens the connection, what was chosen of the protocols, and the codec's
-- options for compression.
function server.answer(asked, opts)
  local protocol = choose_protocol(asked.protocols, opts.protocols)
  local compression, answer
  if opts.compress then
    compression, answer = deflate.choose(asked.extensions, opts.compress)
  end
  local lines = {
    "HTTP/1.1 101 Switching Protocols",
    "Upgrade: websocket",
    "Connection: Upgrade",
    "Sec-WebSocket-Accept: " .. core.accept(asked.key),
  }
  if protocol then
    add_headers(lines, { ["Sec-WebSocket-Protocol"] = protocol })
  end
  if answer then
    add_headers(lines, { ["Sec-WebSocket-Extensions"] = answer })
  end
  add_headers(lines, opts.headers)
  return table.concat(lines, "\r\n") .. "\r\n\r\n", protocol, compression
end

return server
