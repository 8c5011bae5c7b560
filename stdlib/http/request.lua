-- What a request says: made of its options, and changed by redirections.

local authorization = require "moonlet.http.authorization"
local decoder = require "moonlet.http.decoder"
local proxy = require "moonlet.http.proxy"
local url = require "moonlet.http.url"

local moonlet = require "moonlet"

local Request = {}
Request.__index = Request

local TOKEN = "^[%w!#$%%&'*+.^_`|~-]+$"

-- Repeating them changes nothing more (RFC 9110 9.2.2).
local IDEMPOTENT = { GET = true, HEAD = true, OPTIONS = true, TRACE = true, PUT = true,
                     DELETE = true }

-- Their requests have a body, even if it is empty.
local WITH_BODY = { POST = true, PUT = true, PATCH = true }

-- ---- checking options ----

local TYPES = {
  url = { string = true },
  method = { string = true },
  headers = { table = true },
  body = { string = true, ["function"] = true },
  length = { number = true },
  timeout = { number = true },
  connect_timeout = { number = true },
  send_timeout = { number = true },
  answer_timeout = { number = true },
  redirects = { number = true, boolean = true },
  decode = { boolean = true },
  proxy = { string = true, boolean = true },
  unix = { string = true },
  ssl = { table = true, userdata = true },
}

local TIMEOUTS = { "timeout", "connect_timeout", "send_timeout", "answer_timeout" }

local function fail(level, message, ...)
  error(message:format(...), level + 1)
end

local function name_types(types)
  local names = {}
  for name in pairs(types) do
    names[#names + 1] = name
  end
  table.sort(names)
  return table.concat(names, " or ")
end

-- A started Timeout bounds everything by itself.
local function drop_timeouts(options)
  for _, name in ipairs(TIMEOUTS) do
    local value = options[name]
    if type(value) == "userdata" and value.is and value:is(moonlet.Timeout) then
      options[name] = nil
    end
  end
end

local function check_options(options, level)
  for name, types in pairs(TYPES) do
    local value = options[name]
    if value ~= nil and not types[type(value)] then
      fail(level + 1, "bad field '%s' of the request (%s expected, got %s)", name,
           name_types(types), type(value))
    end
  end
  if not options.url then
    fail(level + 1, "bad field 'url' of the request (string expected, got nothing)")
  end
  local method = options.method
  if method and (not method:find(TOKEN) or method == "CONNECT") then
    fail(level + 1, "bad field 'method' of the request (%q cannot be one)", method)
  end
  local length = options.length
  if length and (not math.tointeger(length) or length < 0) then
    fail(level + 1, "bad field 'length' of the request (a number of bytes expected)")
  end
end

local function parse_url(text, level)
  local parts, problem = url.parse(text)
  if not parts then
    fail(level + 1, "bad field 'url' of the request (%s)", problem)
  elseif parts.scheme ~= "http" and parts.scheme ~= "https" then
    fail(level + 1, "bad field 'url' of the request (unknown scheme '%s')", parts.scheme)
  end
  return parts
end

local function parse_proxy(choice, level)
  if type(choice) ~= "string" then
    return choice
  end
  local found, problem = proxy.parse(choice)
  if not found then
    fail(level + 1, "bad field 'proxy' of the request (%s)", problem)
  end
  return found
end

-- ---- header fields ----

local function check_value(name, value, level)
  if type(value) ~= "string" and type(value) ~= "number" then
    fail(level + 1, "bad value of header '%s' (string expected, got %s)", name, type(value))
  end
  value = tostring(value):match("^[ \t]*(.-)[ \t]*$")
  if value:find("[\r\n\0]") then
    fail(level + 1, "bad value of header '%s' (a line break or NUL in it)", name)
  end
  return value
end

-- Adds a table of fields: names in lower case -> { name =, value ... }; a value of false is for a
-- field that shall not be there.
local function add_headers(fields, headers, level)
  local seen = {}
  for name, values in pairs(headers or {}) do
    if type(name) ~= "string" or not name:find(TOKEN) then
      fail(level + 1, "bad header name %q", tostring(name))
    end
    local field, key = { name = name }, name:lower()
    if seen[key] then
      fail(level + 1, "header '%s' is there twice", key)
    end
    for i, value in ipairs(type(values) == "table" and values or { values or nil }) do
      field[i] = check_value(name, value, level + 1)
    end
    seen[key], fields[key] = true, field
  end
end

local function has_word(field, word)
  for _, value in ipairs(field or {}) do
    for item in value:lower():gmatch("[^,%s]+") do
      if item == word then
        return true
      end
    end
  end
  return false
end

-- ---- the body ----

-- How long it is was said by a field for it, or by `length`.
local function announced_length(self, length, level)
  local field = self.fields["content-length"]
  if field then
    self.fields["content-length"] = nil
    local value = #field == 1 and field[1]:match("^%d+$") and math.tointeger(tonumber(field[1]))
    if not value or length and value ~= length then
      fail(level + 1, "bad value of header 'Content-Length' (not the body's length)")
    end
    return value
  end
  return length
end

local function set_body(self, body, length, level)
  length = announced_length(self, length, level + 1)
  local is_function = type(body) == "function"
  local coding = self.fields["transfer-encoding"]
  self.fields["transfer-encoding"] = nil
  if coding and (not is_function or length or #coding ~= 1 or coding[1]:lower() ~= "chunked") then
    fail(level + 1, "bad header 'Transfer-Encoding' (only a function's body may be sent in chunks)")
  elseif not is_function and length and length ~= #(body or "") then
    fail(level + 1, "bad field 'length' of the request (the body has %d bytes)", #(body or ""))
  end
  if not is_function then
    length = body and #body or WITH_BODY[self.method] and 0 or nil
  end
  self.body, self.length = body, length
  self.chunked = is_function and not length
end

-- ---- making one ----

-- The options where there are any, else those of the client.
local function merge(defaults, options)
  local all = {}
  for _, from in ipairs { defaults, options } do
    for name, value in pairs(from) do
      all[name] = value
    end
  end
  return all
end

-- A request; what is wrong with its options is an error at that level.
function Request.new(defaults, options, level)
  local all = merge(defaults, options)
  drop_timeouts(all)
  check_options(all, level + 1)
  local fields = {}
  add_headers(fields, defaults.headers, level + 1)
  add_headers(fields, options.headers, level + 1)
  local self = setmetatable({
    parts = parse_url(all.url, level + 1),
    fields = fields,
    method = all.method or all.body and "POST" or "GET",
    proxy = parse_proxy(all.proxy, level + 1),
    unix = all.unix,
    ssl = all.ssl,
    timeout = all.timeout,
    connect_timeout = all.connect_timeout,
    send_timeout = all.send_timeout,
    answer_timeout = all.answer_timeout,
    redirects = all.redirects == nil and 10 or tonumber(all.redirects) or all.redirects and 10 or 0,
    decode = all.decode ~= false and not fields["accept-encoding"] and decoder.is_there(),
    expects = has_word(fields.expect, "100-continue"),
    upgrades = fields.upgrade ~= nil and has_word(fields.connection, "upgrade"),
    closes = has_word(fields.connection, "close"),
  }, Request)
  set_body(self, all.body, all.length, level + 1)
  self.expects = self.expects and all.body ~= nil
  return self
end

-- ---- what it is asked ----

-- Whether it may be sent again, after it was lost.
function Request:is_repeatable()
  return IDEMPOTENT[self.method] and type(self.body) ~= "function"
end

-- The proxy to go through: a table, or nil; nil and what is wrong with it.
function Request:find_proxy()
  if self.unix or self.proxy == false then
    return nil
  elseif type(self.proxy) == "table" then
    return self.proxy
  end
  return proxy.find(self.parts)
end

-- The header fields, as a list of { name, value }, with what the client adds.
function Request:list_fields(cookie, proxy_authorization)
  local list, names, parts = {}, {}, self.parts
  local function add(name, value)
    if value and not self.fields[name:lower()] then
      list[#list + 1] = { name, value }
    end
  end
  add("Host", url.authority(parts))
  for name in pairs(self.fields) do
    names[#names + 1] = name
  end
  table.sort(names)
  for _, name in ipairs(names) do
    for _, value in ipairs(self.fields[name]) do
      list[#list + 1] = { self.fields[name].name, value }
    end
  end
  add("User-Agent", "moonlet")
  add("Accept", "*/*")
  add("Accept-Encoding", self.decode and "gzip, deflate" or nil)
  add("Authorization", authorization.basic(parts.user))
  add("Cookie", cookie)
  add("Proxy-Authorization", proxy_authorization)
  add("Transfer-Encoding", self.chunked and "chunked" or nil)
  add("Content-Length", self.length and ("%d"):format(self.length) or nil)
  return list
end

-- ---- the pieces of a function's body ----

local function check_piece(self, piece, left)
  if type(piece) ~= "string" then
    error(("the body's function returned a %s, not a string"):format(type(piece)), 0)
  elseif left and left < #piece then
    error(("the body is longer than the %d bytes announced"):format(self.length), 0)
  end
end

-- An iterator over the pieces that are not empty, with an error if they are not what was announced.
function Request:pieces()
  local next_piece, left = self.body, self.length
  return function()
    local piece
    repeat
      piece = next_piece()
      if piece ~= nil then
        check_piece(self, piece, left)
        left = left and left - #piece
      end
    until piece ~= ""
    if not piece and left and left > 0 then
      error(("the body is shorter than the %d bytes announced"):format(self.length), 0)
    end
    return piece
  end
end

-- ---- redirections ----

local REDIRECTS = { [301] = true, [302] = true, [303] = true, [307] = true, [308] = true }

-- Whether an answer leads elsewhere.
function Request.is_redirected(status, headers)
  return REDIRECTS[status] and headers.location ~= nil
end

local function becomes_get(status, method)
  return status == 303 and method ~= "HEAD" or (status == 301 or status == 302) and method == "POST"
end

local function drop_fields(fields, names)
  for _, name in ipairs(names) do
    fields[name] = nil
  end
end

-- What is for one server is not for another.
local function change_origin(self, parts)
  if url.origin(parts) ~= url.origin(self.parts) then
    drop_fields(self.fields, { "authorization", "cookie", "host" })
    self.unix = nil
  elseif not parts.user then
    parts.user = self.parts.user
  end
end

-- Makes it the request that the answer asks for: true, or nil and why not.
function Request:redirect(status, location)
  local parts, problem = url.parse(url.resolve(self.parts, location))
  if not parts then
    return nil, "redirected to an " .. problem
  elseif parts.scheme ~= "http" and parts.scheme ~= "https" then
    return nil, "redirected to an unknown scheme: " .. parts.scheme
  elseif parts.scheme == "http" and self.parts.scheme == "https" then
    return nil, "redirected from https to http"
  end
  if becomes_get(status, self.method) then
    self.method, self.expects = "GET", false
    drop_fields(self.fields, { "content-type", "content-encoding", "content-language",
                               "content-location", "expect" })
    set_body(self, nil, nil, 1)
  elseif type(self.body) == "function" then
    return nil, "redirected, but the body cannot be sent again"
  end
  change_origin(self, parts)
  self.parts = parts
  return true
end

return Request
