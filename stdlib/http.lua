--- An HTTP client: keep-alive connections, streaming both ways, redirects, cookies, proxies, TLS.
--
--     local response = assert(http.request { url = "http://127.0.0.1:8080/", timeout = 10 })
--     print(response.status, response.headers["content-type"], response:body())
--
-- What a request may say (all but `url` may be left out):
--
-- - `url`: http or https; a user in it is sent as Basic authorization
-- - `method`: "GET"; "POST" if there is a body
-- - `headers`: a table of names and values; a value may be a list, for a repeated field
-- - `body`: a string, or a function that returns the next piece and nil at the end
-- - `length`: of a function's body, in bytes; else it is sent in chunks
-- - `timeout`: seconds for everything: connecting, sending, the answer up to the end of its body
-- - `connect_timeout`, `answer_timeout`: for connecting; from the request's last byte to the
--   answer's head; for these two `timeout` is the upper bound
-- - `redirects`: how many are followed (10); 0 or false: none
-- - `decode`: false leaves gzip and deflate as they are
-- - `proxy`: "http://host:port"; false: none; else the environment says (http_proxy,
--   https_proxy, no_proxy)
-- - `unix`: the path of a unix socket to connect to instead of the host
-- - `ssl`: parameters of moonlet.ssl; certificates are verified unless they say otherwise
--
-- A Client keeps connections and settings of its own; the functions of the module share one.
-- Differs: HTTP client | none of its own | there

local Connection = require "moonlet.http.connection"
local Cookies = require "moonlet.http.cookies"
local Object = require "moonlet.class"
local Response = require "moonlet.http.response"
local moonlet = require "moonlet"
local url = require "moonlet.http.url"

local now = moonlet.now

local TYPES = {
  url = "string", method = "string", headers = "table", length = "number", timeout = "number",
  connect_timeout = "number", answer_timeout = "number", unix = "string", ssl = "table",
}

-- Repeating them changes nothing more (RFC 9110 9.2.2).
local IDEMPOTENT = { GET = true, HEAD = true, OPTIONS = true, TRACE = true, PUT = true,
                     DELETE = true }

local REDIRECTS = { [301] = true, [302] = true, [303] = true, [307] = true, [308] = true }

-- A redirected answer is read to its end if that is no more than this, to keep its connection.
local MAX_DISCARDED = 65536

local MAX_IDLE = 8 -- connections kept to one server
local IDLE_TIME = 60 -- seconds; servers close them sooner or later

-- ---- what a request says ----

local function bad_field(name, expected, value, level)
  error(("bad field '%s' of the request (%s expected, got %s)"):format(
          name, expected, value == nil and "nothing" or type(value)), level + 1)
end

local function check_options(options, level)
  for name, expected in pairs(TYPES) do
    if options[name] ~= nil and type(options[name]) ~= expected then
      bad_field(name, expected, options[name], level + 1)
    end
  end
  if not options.url then
    bad_field("url", "string", nil, level + 1)
  end
  local body = type(options.body)
  if body ~= "nil" and body ~= "string" and body ~= "function" then
    bad_field("body", "string or function", options.body, level + 1)
  end
  if options.method and not options.method:find("^[%w!#$%%&'*+.^_`|~-]+$") then
    error("bad field 'method' of the request (a word expected)", level + 1)
  end
end

local function check_field(name, value, level)
  if type(name) ~= "string" or not name:find("^[%w!#$%%&'*+.^_`|~-]+$") then
    error(("bad header name %q"):format(tostring(name)), level + 1)
  end
  value = tostring(value)
  if value:find("[\r\n\0]") then
    error(("bad value of header '%s' (a line break or NUL in it)"):format(name), level + 1)
  end
  return value
end

-- The fields of a head: names in lower case -> { name, value ... }, and their order.
local function collect_headers(tables, level)
  local fields, order = {}, {}
  for _, headers in ipairs(tables) do
    for name, values in pairs(headers) do
      local list = { name }
      for i, value in ipairs(type(values) == "table" and values or { values }) do
        list[i + 1] = check_field(name, value, level + 1)
      end
      local key = name:lower()
      if not fields[key] then
        order[#order + 1] = key
      end
      fields[key] = list
    end
  end
  table.sort(order)
  return fields, order
end

local BASE64 = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"

local function base64(text)
  local out = {}
  for i = 1, #text, 3 do
    local a, b, c = text:byte(i, i + 2)
    local bits = a << 16 | (b or 0) << 8 | (c or 0)
    for digit = 0, 3 do
      local place = bits >> (18 - 6 * digit) & 63
      out[#out + 1] = digit > 1 and not (digit == 2 and b or digit == 3 and c) and "=" or
                        BASE64:sub(place + 1, place + 1)
    end
  end
  return table.concat(out)
end

local function basic(user)
  return user and "Basic " .. base64(url.unescape(user)) or nil
end

-- ---- proxies ----

local function environment(name)
  return os.getenv(name) or name ~= "http_proxy" and os.getenv(name:upper()) or nil
end

local function is_excepted(host, list)
  for item in (list or ""):gmatch("[^,%s]+") do
    item = item:gsub("^%.", ""):lower()
    if item == "*" or host == item or host:sub(-#item - 1) == "." .. item then
      return true
    end
  end
  return false
end

local function find_proxy(choice, parts, level)
  local text = choice
  if choice == nil and not is_excepted(parts.host, environment("no_proxy")) then
    text = environment(parts.scheme .. "_proxy") or environment("all_proxy")
  end
  if not text or text == "" then
    return nil
  end
  local proxy, problem = url.parse(text:find("://", 1, true) and text or "http://" .. text)
  if not proxy or proxy.scheme ~= "http" then
    error("bad field 'proxy' of the request (" ..
            (problem or "a proxy is spoken to by http") .. ")", level + 1)
  end
  return { host = proxy.host, port = proxy.port, authorization = basic(proxy.user) }
end

-- ---- clients ----

--- A client with connections, cookies and settings of its own.
---@class moonlet.http.Client: moonlet.class.Object
---@overload fun(defaults?: table): moonlet.http.Client
---@field cookies? moonlet.http.Cookies  nil: they are not kept
---@field defaults table  what its requests say where they say nothing
local Client = Object:extend("Client")

--- A client; what its requests do not say is taken from `defaults`.
---@param defaults? table  fields of a request; also `cookies` (true: they are kept),
--   `max_idle` (connections kept to one server, 8), `idle_time` (seconds, 60)
function Client:new(defaults)
  if defaults ~= nil and type(defaults) ~= "table" then
    error(("bad argument #1 to 'Client' (table expected, got %s)"):format(type(defaults)), 4)
  end
  self.defaults = defaults or {}
  self.cookies = self.defaults.cookies and Cookies() or nil
  self._idle = {}
  self._count = 0
end

-- A connection to the same server by the same way that still stands, the one used last first.
function Client:_take(key)
  local list = self._idle[key]
  while list and #list > 0 do
    local entry = table.remove(list)
    self._count = self._count - 1
    if entry.since + (self.defaults.idle_time or IDLE_TIME) > now() and
       entry.connection:is_idle() then
      return entry.connection
    end
    entry.connection:close()
  end
end

-- Keeps a connection for the next request; servers nobody asks any more lose theirs.
function Client:_keep(key, connection)
  local list = self._idle[key] or {}
  self._idle[key] = list
  table.insert(list, { connection = connection, since = now() })
  self._count = self._count + 1
  if #list > (self.defaults.max_idle or MAX_IDLE) then
    table.remove(list, 1).connection:close()
    self._count = self._count - 1
  end
  self:_expire()
end

function Client:_expire()
  local limit = now() - (self.defaults.idle_time or IDLE_TIME)
  for key, list in pairs(self._idle) do
    while list[1] and list[1].since < limit do
      table.remove(list, 1).connection:close()
      self._count = self._count - 1
    end
    if #list == 0 then
      self._idle[key] = nil
    end
  end
end

--- Closes the connections that no request uses; the client may go on being used.
function Client:close()
  for key, list in pairs(self._idle) do
    for _, entry in ipairs(list) do
      entry.connection:close()
    end
    self._idle[key] = nil
  end
  self._count = 0
end

Client.__close = Client.close

function Client:__tostring()
  return ("<Client: %d idle connections>"):format(self._count)
end

-- ---- one request ----

-- The head's first line and fields, for the server or for a proxy that passes it on.
local function build_head(client, request, proxy)
  local parts, fields = request.parts, request.fields
  local target = proxy and parts.scheme == "http" and url.build(parts) or parts.target
  local lines = { ("%s %s HTTP/1.1"):format(request.method, target) }
  local function add(name, value)
    if value and not fields[name:lower()] then
      lines[#lines + 1] = name .. ": " .. value
    end
  end
  add("Host", url.authority(parts))
  for _, key in ipairs(request.order) do
    local list = fields[key]
    for i = 2, #list do
      lines[#lines + 1] = list[1] .. ": " .. list[i]
    end
  end
  add("User-Agent", "moonlet")
  add("Accept", "*/*")
  add("Accept-Encoding", request.decode and "gzip, deflate" or nil)
  add("Authorization", basic(parts.user))
  add("Cookie", client.cookies and client.cookies:get(parts) or nil)
  if proxy and parts.scheme == "http" then
    add("Proxy-Authorization", proxy.authorization)
  end
  add("Transfer-Encoding", request.chunked and "chunked" or nil)
  add("Content-Length", request.length and ("%d"):format(request.length) or nil)
  lines[#lines + 1] = "\r\n"
  return table.concat(lines, "\r\n")
end

-- With a string nothing is left to find out; a function's body has the length it was said to have.
local function set_framing(request, body, length)
  request.body = body
  request.chunked = type(body) == "function" and not length and
                      not request.fields["content-length"]
  request.length = type(body) == "string" and #body or type(body) == "function" and length or nil
  if not body and (request.method == "POST" or request.method == "PUT" or
                   request.method == "PATCH") then
    request.length = 0
  end
end

local function sooner(deadline, start, seconds)
  local other = seconds and start + seconds
  return deadline and other and math.min(deadline, other) or deadline or other
end

local function can_decode()
  return (pcall(require, "moonlet.zlib"))
end

-- Decodes the body if it is packed in a way that is known.
local function inflater_for(request, headers)
  local coding = request.decode and headers["content-encoding"]
  if coding ~= "gzip" and coding ~= "x-gzip" and coding ~= "deflate" then
    return nil
  end
  return require("moonlet.zlib").inflate()
end

-- Whether the request may be sent again after the connection was lost without an answer.
local function may_repeat(request, connection, message)
  return connection.used > 1 and not connection.answered and message == "closed" and
           IDEMPOTENT[request.method] and type(request.body) ~= "function"
end

function Client:_connect(request, proxy, deadline)
  local key = table.concat({ request.parts.scheme, url.authority(request.parts),
                             proxy and proxy.host .. ":" .. proxy.port or "",
                             request.unix or "", tostring(request.ssl or "") }, " ")
  local connection = self:_take(key)
  if connection then
    return connection, key
  end
  local message, number
  connection, message, number = Connection.open(request.parts, {
    proxy = proxy, unix = request.unix, ssl = request.ssl,
    authority = request.parts.host .. ":" .. request.parts.port,
  }, sooner(deadline, now(), request.connect_timeout))
  return connection, connection and key or message, number
end

function Client:_respond(request, connection, key, deadline)
  local parser = connection.parser
  local headers = parser:headers()
  if self.cookies then
    for i = 1, #headers, 2 do
      if headers[i]:lower() == "set-cookie" then
        self.cookies:set(request.parts, headers[i + 1])
      end
    end
  end
  return Response {
    status = parser:status(),
    reason = parser:reason(),
    version = parser:version(),
    headers = headers,
    url = url.build(request.parts),
    _connection = connection,
    _deadline = deadline,
    _inflater = inflater_for(request, headers),
    _done = function(finished, reusable)
      if reusable then
        self:_keep(key, finished)
      else
        finished:close()
      end
    end,
  }
end

-- The answer to one request, on a connection that was kept or a new one.
function Client:_exchange(request, deadline)
  while true do
    local proxy = not request.unix and find_proxy(request.proxy, request.parts, 4) or nil
    local connection, key, number = self:_connect(request, proxy, deadline)
    if not connection then
      return nil, key, number
    end
    local guard <close> = connection:guard()
    if request.method == "HEAD" then
      connection.parser:skip_body()
    end
    local head = build_head(self, request, proxy)
    local ok, message = connection:exchange(head, request.body, request.chunked,
                                            sooner(deadline, now(), request.answer_timeout))
    if ok then
      guard:release()
      return self:_respond(request, connection, key, deadline)
    elseif not may_repeat(request, connection, message) then
      return nil, message
    end
  end
end

local function same_origin(a, b)
  return a.scheme == b.scheme and a.host == b.host and a.port == b.port
end

-- Makes the request the one that the answer asks for: true, or nil and why not.
local function redirect(request, response)
  local parts, problem = url.parse(url.resolve(request.parts, response.headers.location))
  if not parts then
    return nil, "redirected to an " .. problem
  elseif parts.scheme ~= "http" and parts.scheme ~= "https" then
    return nil, "redirected to an unknown scheme: " .. parts.scheme
  end
  local status = response.status
  if status == 303 and request.method ~= "HEAD" or
     (status == 301 or status == 302) and request.method == "POST" then
    request.method = "GET"
    for _, name in ipairs { "content-length", "content-type", "content-encoding" } do
      request.fields[name] = request.fields[name] and { "" }
    end
    set_framing(request, nil)
  elseif type(request.body) == "function" then
    return nil, "redirected, but the body cannot be sent again"
  end
  if not same_origin(parts, request.parts) then
    for _, name in ipairs { "authorization", "cookie", "host" } do
      request.fields[name] = nil
    end
    parts.user = nil
  elseif not parts.user then
    parts.user = request.parts.user
  end
  request.parts = parts
  return true
end

-- The fields of a request, those of the client where it says nothing.
local function complete(client, options, level)
  local all = {}
  for name, value in pairs(client.defaults) do
    all[name] = value
  end
  for name, value in pairs(options) do
    all[name] = value
  end
  check_options(all, level + 1)
  local parts, problem = url.parse(all.url)
  if not parts then
    error("bad field 'url' of the request (" .. problem .. ")", level + 1)
  elseif parts.scheme ~= "http" and parts.scheme ~= "https" then
    error(("bad field 'url' of the request (unknown scheme '%s')"):format(parts.scheme), level + 1)
  end
  local fields, order = collect_headers({ client.defaults.headers or {}, options.headers or {} },
                                        level + 1)
  local request = {
    parts = parts, fields = fields, order = order,
    method = all.method or all.body and "POST" or "GET",
    proxy = all.proxy, unix = all.unix, ssl = all.ssl,
    connect_timeout = all.connect_timeout, answer_timeout = all.answer_timeout,
    decode = all.decode ~= false and not fields["accept-encoding"] and can_decode(),
  }
  set_framing(request, all.body, all.length)
  return request, all
end

--- Sends a request and returns once the head of the answer is there.
-- Redirects are followed; the body of the answer is read from the response.
---@param options string|table  a URL, or what the module's description lists
---@return moonlet.http.Response|nil
---@return string # "timeout", "closed", "connection refused" or what else went wrong
---@return integer # errno, or the resolver's number
function Client:request(options)
  if type(options) == "string" then
    options = { url = options }
  elseif type(options) ~= "table" then
    error(("bad argument #1 to 'request' (string or table expected, got %s)"):format(
            options == nil and "no value" or type(options)), 2)
  end
  local request, all = complete(self, options, 2)
  local deadline = sooner(nil, now(), all.timeout)
  local follows = all.redirects == nil and 10 or all.redirects or 0
  for hop = 0, math.max(follows, 0) do
    local response, message, number = self:_exchange(request, deadline)
    if not response then
      return nil, message, number
    end
    local redirected = REDIRECTS[response.status] and response.headers.location
    if not redirected or follows == 0 then
      return response
    end
    local ok
    ok, message = redirect(request, response)
    if ok and hop < follows then
      response:body(MAX_DISCARDED)
    end
    response:close()
    if not ok then
      return nil, message
    end
  end
  return nil, "too many redirects"
end

-- ---- the module ----

local http = { Client = Client, Cookies = Cookies, Response = Response }

local shared = Client()

--- Sends a request by the client that all share, and returns once the head of the answer is there.
---@param options string|table  a URL, or what the module's description lists
---@return moonlet.http.Response|nil
---@return string # "timeout", "closed", "connection refused" or what else went wrong
---@return integer # errno, or the resolver's number
function http.request(options)
  return shared:request(options)
end

return http
