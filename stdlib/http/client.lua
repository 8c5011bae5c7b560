-- Requests as a whole: with connections that are kept, redirections and cookies.

local Cookies = require "moonlet.http.cookies"
local Object = require "moonlet.class"
local Pool = require "moonlet.http.pool"
local Request = require "moonlet.http.request"
local Response = require "moonlet.http.response"
local deadline = require "moonlet.http.deadline"
local url = require "moonlet.http.url"

local after, sooner = deadline.after, deadline.sooner

-- A redirected answer is read to its end if that is no more than this, to keep its connection.
local MAX_DISCARDED = 65536
local DISCARD_TIME = 1

local MAX_IDLE = 8
local IDLE_TIME = 60

--- A client with connections, cookies and settings of its own. Any number of greenlets may use it
-- at the same time. As a `<close>` variable it is closed.
---@class moonlet.http.Client: moonlet.class.Object
---@overload fun(defaults?: table): moonlet.http.Client
---@field cookies moonlet.http.Cookies|false  those it keeps
---@field defaults table  what its requests say where they say nothing
local Client = Object:extend("Client")

-- A setting that has to be a number.
local function read_number(defaults, name, least, default)
  local value = defaults[name]
  if value ~= nil and (type(value) ~= "number" or value < least) then
    error(("bad field '%s' of the client (a number from %d expected)"):format(name, least), 5)
  end
  return value or default
end

--- A client; what its requests do not say is taken from `defaults`.
---@param defaults? table  fields of a request; also `cookies` (true: they are kept, or a Cookies),
--   `max_idle` (connections kept to one server, 8), `idle_time` (seconds, 60),
--   `max_connections` (to one server; further requests wait for one), `http2` (false: only HTTP/1)
function Client:new(defaults)
  if defaults ~= nil and type(defaults) ~= "table" then
    error(("bad argument #1 to 'Client' (table expected, got %s)"):format(type(defaults)), 4)
  end
  defaults = defaults or {}
  self.defaults = defaults
  self.cookies = defaults.cookies == true and Cookies() or defaults.cookies or false
  self._pool = Pool.new(read_number(defaults, "max_idle", 0, MAX_IDLE),
                        read_number(defaults, "idle_time", 0, IDLE_TIME),
                        read_number(defaults, "max_connections", 1), defaults.http2 ~= false)
end

--- Closes the connections that no request uses; those in use are closed after their answers. The
-- client may go on being used.
function Client:close()
  self._pool:close()
end

Client.__close = Client.close

function Client:__tostring()
  return ("<Client: %d idle connections>"):format(self._pool:count_idle())
end

-- ---- one request ----

-- The head as HTTP/1 has it; a proxy is told the whole URL.
local function build_head(client, request, proxy)
  local parts = request.parts
  local is_passed_on = proxy and parts.scheme == "http"
  local fields = request:list_fields(client.cookies and client.cookies:get(parts) or nil,
                                     is_passed_on and proxy.authorization or nil)
  local target = is_passed_on and url.build(parts) or parts.target
  local lines = { ("%s %s HTTP/1.1"):format(request.method, target) }
  for i, field in ipairs(fields) do
    lines[i + 1] = field[1] .. ": " .. field[2]
  end
  return table.concat(lines, "\r\n") .. "\r\n\r\n"
end

local function keep_cookies(client, parts, headers)
  for i = 1, client.cookies and #headers or 0, 2 do
    if headers[i]:lower() == "set-cookie" then
      client.cookies:set(parts, headers[i + 1])
    end
  end
end

-- The answer to one request, on a connection that was kept or a new one.
local function exchange(client, request, due)
  local proxy, problem = request:find_proxy()
  if problem then
    return nil, problem
  end
  local fresh = false
  while true do
    local lease, message, number = client._pool:lease(request, proxy, fresh, sooner(due,
                                                      after(request.connect_timeout)))
    if not lease then
      return nil, message, number
    end
    local guard <close> = lease
    lease.kept = false
    local carrier, head = lease.carrier, build_head(client, request, proxy)
    local answered
    answered, message = carrier:exchange(request, head, due)
    if answered then
      lease:keep()
      return Response(guard, request, url.build(request.parts), due)
    elseif carrier.raised then
      error(carrier.raised[1], 0)
    elseif fresh or not carrier:may_repeat(request, message) then
      return nil, message
    end
    fresh = true
  end
end

--- Sends a request and returns once the head of the answer is there. Redirections are followed; the
-- body of the answer is read from the response.
---@param options string|table  a URL, or what the module's description lists
---@return moonlet.http.Response|nil
---@return string # "timeout", "closed", "connection refused" or what else went wrong
---@return integer # errno, or the resolver's number
---@raise what the body's function raises
function Client:request(options)
  if type(options) == "string" then
    options = { url = options }
  elseif type(options) ~= "table" then
    error(("bad argument #1 to 'request' (string or table expected, got %s)"):format(
            options == nil and "no value" or type(options)), 2)
  end
  local request = Request.new(self.defaults, options, 2)
  local due = after(request.timeout)
  for hop = 0, request.redirects do
    local response, message, number = exchange(self, request, due)
    if not response then
      return nil, message, number
    end
    keep_cookies(self, request.parts, response.headers)
    local is_last = request.redirects == 0
    if is_last or not Request.is_redirected(response.status, response.headers) then
      return response
    end
    local guard <close> = response
    local ok
    ok, message = request:redirect(response.status, response.headers.location)
    if not ok then
      return nil, message
    elseif hop < request.redirects then
      guard:_discard(MAX_DISCARDED, sooner(due, after(DISCARD_TIME)))
    end
  end
  return nil, "too many redirections"
end

return Client
