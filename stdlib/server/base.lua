-- What servers of all kinds have in common: how they begin, accept, and end.

local Object = require "moonlet.class"
local Socket = require("moonlet.socket.core").Socket
local address = require "moonlet.address"
local event = require "moonlet.event"
local listen = require "moonlet.server.listen"
local moonlet = require "moonlet"
local pool = require "moonlet.pool"

local getcurrent, sleep, spawn = moonlet.getcurrent, moonlet.sleep, moonlet.spawn

-- How long accepting pauses after an error, seconds; twice as long after the next one.
local MIN_DELAY, MAX_DELAY = 0.01, 1

-- How long to wait for handlers that were killed, seconds.
local KILL_TIMEOUT = 1

--- What StreamServer and DatagramServer have in common. As a `<close>` variable a server is stopped
-- at the end of the block.
-- Source: gevent.baseserver.BaseServer.
---@class moonlet.server.BaseServer: moonlet.class.Object
---@field started boolean from start() until it is stopped or closed
---@field stopping boolean since stop(): handlers should come to their end
---@field address table { host, port }, the real one once it is started; or { path = path }
---@field socket moonlet.socket.Socket|false the socket it is bound to, once it is
---@field max_accept integer how many clients at most are accepted before others get their turn
---@field stop_timeout number seconds that stop() waits for the handlers
local BaseServer = Object:extend("BaseServer")

BaseServer.started = false
BaseServer.stopping = false
BaseServer.socket = false
BaseServer.max_accept = 100
BaseServer.stop_timeout = 1

-- ---- construction ----

-- An error of who calls the class: the first C function on the way there is the constructor.
local function fail(message)
  local level = 3
  while (debug.getinfo(level, "S") or { what = "C" }).what ~= "C" do
    level = level + 1
  end
  error(message, level + 1)
end

-- Of one of the constructor's arguments; for options it is the third.
function BaseServer:_bad_argument(number, message)
  fail(("bad argument #%d to '%s' (%s)"):format(number, getmetatable(self).__name, message))
end

local function is_callable(value)
  local meta = getmetatable(value)
  return type(value) == "function" or type(meta) == "table" and meta.__call ~= nil
end

-- An option that is a number, or its default; integers are at least `least`.
function BaseServer:_number_option(opts, name, least)
  local value = opts[name]
  if value == nil then
    return self[name]
  end
  if type(value) ~= "number" or least and math.type(value) ~= "integer" then
    self:_bad_argument(3, ("%s: %s expected, got %s"):format(name, least and "integer" or "number",
                                                            type(value)))
  elseif value < (least or 0) then
    self:_bad_argument(3, ("%s: must be at least %d"):format(name, least or 0))
  end
  return value
end

local function type_name(value)
  local meta = getmetatable(value)
  return type(meta) == "table" and rawget(meta, "__name") or type(value)
end

function BaseServer:_set_spawn(how)
  self._pool = false
  if math.type(how) == "integer" and how > 0 then
    self._pool = pool.Pool(how)
  elseif type(how) == "table" and how.is and how:is(pool.Group) then
    self._pool = how
  elseif how ~= nil and how ~= "raw" then
    self:_bad_argument(3, "spawn: a positive integer, a Group or \"raw\" expected, got " ..
                       (type(how) == "number" and tostring(how) or type_name(how)))
  end
end

function BaseServer:_set_address(where, opts)
  if type(where) == "userdata" and where.is and where:is(Socket) then
    self:_check_listener(where)
    if opts.backlog ~= nil or opts.reuse_port then
      self:_bad_argument(3, "backlog and reuse_port must be set on the socket that is given")
    end
    self.socket, self.address = where, listen.address_of(where)
    return
  end
  local parsed, problem = address.parse(where)
  if not parsed then
    self:_bad_argument(1, problem)
  end
  self._where = parsed
  self.address = parsed.path and { path = parsed.path } or { parsed.host, parsed.port }
end

--- A server that is not started yet.
---@param where string|integer|table|moonlet.socket.Socket
---@param handle? function needed unless a subclass has a method `handle`
---@param opts? table
---@raise an error for what cannot be an address, no handler, or a wrong option
function BaseServer:new(where, handle, opts)
  opts = opts or {}
  if type(opts) ~= "table" then
    self:_bad_argument(3, "table expected, got " .. type(opts))
  end
  if handle == nil and self.handle == self._call_handle or
     handle ~= nil and not is_callable(handle) then
    self:_bad_argument(2, "function expected, got " .. (handle == nil and "no value" or
                                                       type(handle)))
  end
  self:_set_address(where, opts)
  self:_set_spawn(opts.spawn)
  self.max_accept = self:_number_option(opts, "max_accept", 1)
  self.stop_timeout = self:_number_option(opts, "stop_timeout")
  self._handle = handle
  self._handlers = {} -- greenlet -> its client's socket, or true
  self._closed = event.Event()
  self._delay = MIN_DELAY
  self:_make_scopes()
end

-- ---- handlers ----

-- What a handler's greenlet has as a <close> variable: closes the client, whatever happens.
local HandlerScope = {}

function HandlerScope:__close()
  local handlers, me = self.handlers, getcurrent()
  local client = handlers[me]
  handlers[me] = nil
  if client ~= true then
    client:close()
  end
end

-- The same of the greenlet that accepts: after an error, which is reported as that of any
-- greenlet, another one takes its place.
local AcceptScope = {}

local function accept_all(self)
  local _ <close> = self._accept_scope
  local me, count, max = getcurrent(), 0, self.max_accept
  local slots = self._pool
  while self._acceptor == me do
    if slots then
      self:_wait_for_slot(slots)
    end
    self:_accept(self.socket)
    self._delay = MIN_DELAY
    count = count + 1
    if count >= max then
      count = 0
      sleep(0)
    end
  end
end

function AcceptScope:__close(err)
  local server = self.server
  if server._acceptor ~= getcurrent() then
    return
  end
  server._acceptor = nil
  if err ~= nil and not (type(err) == "table" and err.is and err:is(moonlet.GreenletExit)) then
    server._acceptor = moonlet.spawn_later(server._delay, accept_all, server)
    server._delay = math.min(server._delay * 2, MAX_DELAY)
  end
end

-- One of each for all greenlets of the server: a connection costs no object of its own.
function BaseServer:_make_scopes()
  self._handler_scope = setmetatable({ handlers = self._handlers }, HandlerScope)
  self._accept_scope = setmetatable({ server = self }, AcceptScope)
end

-- A Group that is no Pool has room always.
function BaseServer:_wait_for_slot(slots)
  if slots.wait_available then
    slots:wait_available()
  end
end

-- Runs f(self, ...) as a handler, in a greenlet of its own.
function BaseServer:_spawn(f, ...)
  if self._pool then
    self._pool:spawn(f, self, ...)
  else
    spawn(f, self, ...)
  end
end

-- accept or the like has failed for good: there is no socket any more.
local FATAL = { closed = true, [9] = true, [22] = true, [88] = true, [95] = true }

-- Closes the server if its socket is gone; else accepting pauses.
function BaseServer:_accept_failed(message, errno)
  if FATAL[message] or FATAL[errno] then
    self:close()
  else
    error(("%s: %s"):format(tostring(self), message), 0)
  end
end

-- ---- life ----

--- Binds the socket, and accepts from now on. It does nothing if it is started.
---@return true|nil
---@return string # "address already in use: 127.0.0.1:80", or another reason with the address
---@return integer # errno, or the resolver's number
---@raise an error if it was stopped or closed
function BaseServer:start()
  if self.started then
    return true
  elseif self._closed:is_set() then
    error(tostring(self) .. " cannot be started again", 2)
  end
  if not self.socket then
    local sock, message, errno = self:_listen(self._where)
    if not sock then
      return nil, message, errno
    elseif self.socket or self._closed:is_set() then -- by another greenlet meanwhile
      sock:close()
      if self.started then
        return true
      end
      return nil, "closed"
    end
    self.socket, self.address = sock, listen.address_of(sock)
  end
  self.started = true
  self:start_accepting()
  return true
end

--- Accepts clients again after stop_accepting().
---@raise an error if it is not started
function BaseServer:start_accepting()
  if not self.started then
    error(tostring(self) .. " is not started", 2)
  end
  self._acceptor = self._acceptor or spawn(accept_all, self)
end

--- Accepts no more clients for now: they wait in the socket's backlog.
function BaseServer:stop_accepting()
  local acceptor = self._acceptor
  self._acceptor = nil
  if acceptor and acceptor ~= getcurrent() then
    moonlet.kill(acceptor)
  end
end

--- Closes its socket for good, a socket that was given to it too. Handlers run on.
function BaseServer:close()
  if self._closed:is_set() then
    return
  end
  self:stop_accepting()
  self.started = false
  self._closed:set()
  if self.socket then
    self.socket:close()
    if self._where and self._where.path then
      os.remove(self._where.path)
    end
  end
end

function BaseServer:__close()
  self:stop()
end

--- Called by stop() before it waits, for subclasses: here clients that only idle can be closed.
function BaseServer:on_stop() end

-- The greenlets of handlers, but not this one.
function BaseServer:_others()
  local list, me = {}, getcurrent()
  for greenlet in pairs(self._handlers) do
    if greenlet ~= me then
      list[#list + 1] = greenlet
    end
  end
  return list
end

-- Waits until the handlers have ended: true, or false at the timeout.
function BaseServer:_join(timeout)
  sleep(0) -- those that were spawned a moment ago are handlers now
  local list = self:_others()
  return #moonlet.joinall(list, timeout) == #list
end

--- Closes it, waits for the handlers, and kills those that remain. A handler may call it: it is
-- not waited for itself.
---@param timeout? number|moonlet.Timeout seconds for the handlers to end (`stop_timeout`)
---@return boolean # whether all have ended without being killed
function BaseServer:stop(timeout)
  self:close()
  if not self.stopping then
    self.stopping = true
    self:on_stop()
  end
  if self:_join(timeout or self.stop_timeout) then
    return true
  end
  moonlet.killall(self:_others(), nil, KILL_TIMEOUT)
  return false
end

-- Stops the server at the end of serve_forever, whatever ended it.
local Forever = {}

function Forever:__close()
  self.server._signal = nil
  self.server:stop(self.timeout)
end

--- Starts it if need be, and waits until it is stopped. SIGTERM stops it (a second one ends the
-- program at once); so does the end of this greenlet by a kill or an error.
---@param stop_timeout? number seconds for the handlers to end (`stop_timeout`)
---@return true|nil # once it is stopped and the handlers have ended
---@return string # or why it could not be started, with the address
---@return integer # errno, or the resolver's number
function BaseServer:serve_forever(stop_timeout)
  local ok, message, errno = self:start()
  if not ok then
    return nil, message, errno
  end
  local _ <close> = setmetatable({ server = self, timeout = stop_timeout }, Forever)
  local signal <close> = moonlet.signal("SIGTERM", self.close, self)
  self._signal = signal
  self._closed:wait()
  return true
end

function BaseServer:_is_accepting()
  return self._acceptor
end

-- How many are at work, and what they are.
function BaseServer:_at_work()
  local count = 0
  for _ in pairs(self._handlers) do
    count = count + 1
  end
  return count, "handlers"
end

function BaseServer:__tostring()
  local count, what = self:_at_work()
  local state = self.stopping and (count > 0 and "stopping" or "stopped") or
                self._closed:is_set() and "closed" or not self.started and "not started" or
                self:_is_accepting() and "started" or "started, not accepting"
  return ("<%s %s: %s, %d %s>"):format(getmetatable(self).__name, listen.describe(self.address),
                                       state, count, what)
end

return BaseServer
