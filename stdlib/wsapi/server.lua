-- The server for WSAPI applications.

local Connection = require "moonlet.wsapi.connection"
local StreamServer = require("moonlet.server").StreamServer
local application = require "moonlet.wsapi.application"
local core = require "moonlet.wsapi.core"
local input = require "moonlet.wsapi.input"
local llhttp = require "moonlet.llhttp"
local log = require "moonlet.wsapi.log"
local moonlet = require "moonlet"

local accept, spawn = core.accept, moonlet.spawn
local run = Connection.run

--- A server of HTTP/1.1 and HTTP/2. A StreamServer otherwise, with its options and methods: start,
-- stop (which lets requests come to their end), serve_forever ...
-- Source: gevent.pywsgi.WSGIServer.
---@class moonlet.wsapi.WSAPIServer: moonlet.server.StreamServer
---@field header_timeout number seconds for the head of a request (10)
---@field idle_timeout number seconds between requests, and for the client to take what is sent (75)
---@field body_timeout number seconds for the client to begin with the body, when it is read (10)
---@field body_rate number bytes a second that the body must keep up with (500)
---@field linger_timeout number seconds to read on after an early end (2)
---@field max_body integer most bytes of a request's body (1 GiB)
---@field max_discard integer most bytes of a body that are read although nobody asks (1 MiB)
---@field max_streams integer most requests at once on a connection of HTTP/2 (100)
---@field stream_window integer most bytes of a body there that wait to be read (256 KiB)
---@field upgrades table functions by name of another protocol, for requests that ask for it
---@field secure boolean whether it is one for TLS
local WSAPIServer = StreamServer:extend("WSAPIServer")

WSAPIServer.header_timeout = 10
WSAPIServer.idle_timeout = 75
WSAPIServer.body_timeout = 10
WSAPIServer.body_rate = 500
WSAPIServer.linger_timeout = 2
WSAPIServer.max_body = 1 << 30
WSAPIServer.max_discard = 1 << 20
WSAPIServer.max_streams = 100
WSAPIServer.stream_window = 1 << 18

-- By name of the protocol: f(env, connection) is called before the application; it may add to env,
-- take the connection and return true, or return another application to be called instead.
WSAPIServer.upgrades = {
  websocket = function(env, connection)
    local ok, websocket = pcall(require, "moonlet.wsapi.websocket")
    return ok and websocket.upgrade(env, connection)
  end,
}

-- ---- the environment ----

-- lua-wsapi's own launchers have "" for a variable that is not there, and its code relies on that.
local function missing(_, name)
  local request = package.loaded["wsapi.request"]
  if type(request) == "table" and type(name) == "string" then
    local caller, library = debug.getinfo(2, "S"), debug.getinfo(request.new, "S")
    return caller and caller.source == library.source and "" or nil
  end
end

-- Every variable of a request, with those that all requests share.
local function pairs_of(env)
  local all = {}
  for name, value in pairs(getmetatable(env).__index) do
    all[name] = value
  end
  for name, value in next, env do
    all[name] = value
  end
  return next, all
end

-- env.error: a file that writes to the error log.
local ErrorFile = {}
ErrorFile.__index = ErrorFile

function ErrorFile:write(...)
  if self.log then
    self.log((table.concat({ ... }):gsub("\n$", "")))
  end
  return self
end

function ErrorFile:flush()
  return self
end

function WSAPIServer:_make_env(opts)
  local base = setmetatable({
    SCRIPT_NAME = "",
    SERVER_SOFTWARE = moonlet._VERSION,
    GATEWAY_INTERFACE = "CGI/1.1",
    SERVER_NAME = self.address[1] or "",
    SERVER_PORT = tostring(self.address[2] or ""),
    HTTPS = self.secure and "on" or nil,
    APP_PATH = "",
    DOCUMENT_ROOT = "",
    PATH_TRANSLATED = "",
    SCRIPT_FILENAME = "",
    error = setmetatable({ log = self._error_log }, ErrorFile),
    ["wsapi.version"] = { 1, 0 },
    ["wsapi.url_scheme"] = self.secure and "https" or "http",
    ["wsapi.multithread"] = false,
    ["wsapi.multiprocess"] = opts.workers ~= nil,
    ["wsapi.run_once"] = false,
  }, { __index = missing })
  for name, value in pairs(opts.env or {}) do
    base[name] = value
  end
  base.input = input.EMPTY -- of requests without a body
  self._env_base = base
  self._env_meta = { __index = base, __pairs = pairs_of }
end

-- ---- construction ----

-- The half for HTTP/2, or false where moonlet was built without nghttp2.
local function http2()
  return pcall(require, "moonlet.nghttp2") and require "moonlet.wsapi.h2"
end

-- Clients under TLS choose the protocol.
function WSAPIServer:_make_context(option, params)
  if self._http2 and type(params) == "table" and params.alpn == nil then
    local full = { alpn = { "h2", "http/1.1" } }
    for name, value in pairs(params) do
      full[name] = value
    end
    params = full
  end
  return WSAPIServer.super._make_context(self, option, params)
end

local NUMBERS = { "header_timeout", "idle_timeout", "body_timeout", "body_rate", "linger_timeout" }
local POSITIVE = { "max_streams", "stream_window" }
local COUNTS = { "max_body", "max_discard" }

--- A server for an application. Options, beside those of StreamServer:
--
--     log              the access log: a file, a function(line), or false for none (standard error)
--     error_log        the same for errors
--     env              a table of variables to be added to those of each request
--     max_line         so many bytes of a line are too many (8192)
--     max_headers      most headers of a request (100)
--     max_header_bytes most bytes of a request's head (65536)
--     max_body         most bytes of its body (1 GiB)
--     max_discard      most bytes of it that are read although the application does not (1 MiB)
--     header_timeout   seconds for the head of a request (10)
--     idle_timeout     seconds between requests, and to wait for a client that takes nothing (75)
--     body_timeout     seconds for a body to begin, once the application reads it (10)
--     body_rate        bytes a second that it must keep up with from then on (500)
--     http2            false: no HTTP/2
--     max_streams      most requests at once on a connection of HTTP/2 (100)
--     stream_window    most bytes of a body there that wait to be read (256 KiB)
--     linger_timeout   seconds to read on, so that the client gets an early answer (2)
--     upgrades         functions by name of another protocol: f(env, connection) is called before
--                      the application for a request that asks for it; it may add to env, take
--                      the socket, by connection:take(), and return true, or return another
--                      application to be called instead, which may take it, too
---@param where string|integer|table|moonlet.socket.Stream {host, port}, port, ":8000",
--   "unix:/path", or a listening socket
---@param app function|table|string
---@param opts? table
---@raise an error for what cannot be an address, no application, or a wrong option
function WSAPIServer:new(where, app, opts)
  opts = opts or {}
  self._http2 = type(opts) == "table" and opts.http2 ~= false and http2()
  WSAPIServer.super.new(self, where, nil, opts)
  self._app = application(app)
  if not self._app then
    self:_bad_argument(2, "application expected, got " .. (app == nil and "no value" or type(app)))
  end
  for _, name in ipairs(NUMBERS) do
    self[name] = self:_number_option(opts, name)
  end
  for _, name in ipairs(COUNTS) do
    self[name] = self:_number_option(opts, name, 0)
  end
  for _, name in ipairs(POSITIVE) do
    self[name] = self:_number_option(opts, name, 1)
  end
  self._limits = {
    line = self:_number_option(opts, "max_line", 1),
    header_count = self:_number_option(opts, "max_headers", 1),
    header_bytes = self:_number_option(opts, "max_header_bytes", 1),
  }
  self.upgrades = opts.upgrades or self.upgrades
  self.secure = opts.ssl and true or false
  self._log, self._error_log = log.writer(opts.log), log.writer(opts.error_log)
  self.stopping = false
  self:_make_env(opts)
  self._idle, self._parsers = {}, {} -- for the next clients
  self._spare = { llhttp.new("request", self._limits) }
  self._converse = core.conversation {
    server = self,
    app = self._app,
    meta = self._env_meta,
    spare = self._spare,
    watched = self._log,
  }
end

-- So many parsers are kept for the next connections that have something to parse.
local MAX_PARSERS = 100

-- One is shared.
function WSAPIServer:_keep_parser(parser)
  if not self._spare[1] then
    self._spare[1] = parser
  elseif #self._parsers < MAX_PARSERS then
    table.insert(self._parsers, parser)
  end
end

function WSAPIServer:_take_parser()
  return table.remove(self._parsers) or llhttp.new("request", self._limits)
end

-- By now the real port is known.
function WSAPIServer:start_accepting()
  self._env_base.SERVER_NAME = self.address[1] or ""
  self._env_base.SERVER_PORT = tostring(self.address[2] or "")
  WSAPIServer.super.start_accepting(self)
end

-- ---- connections ----

-- What a server may have its own of: found here without a look at the class above.
local wrap, peer, handle = StreamServer.wrap, StreamServer.peer, nil
WSAPIServer.wrap, WSAPIServer.peer = wrap, peer

-- Clients that are only to be served cost no more than that.
function WSAPIServer:_accept(listener)
  if self._context or self._pool then
    return WSAPIServer.super._accept(self, listener)
  end
  local idle = self._idle
  local count = #idle
  local connection = idle[count]
  if connection then
    idle[count] = nil
  else
    connection = Connection.new(self)
  end
  local client, host, port = accept(listener, connection.sock, self.idle_timeout)
  if not client then
    return self:_accept_failed(host, port)
  elseif self.handle ~= handle or self.wrap ~= wrap or self.peer ~= peer then
    client:settimeout()
    return self:_welcome(client)
  end
  connection.sock, connection.host, connection.port = client, host, port
  spawn(run, connection)
end

function WSAPIServer:handle(sock, address)
  local host, port = address[1] or "", address[2] and tostring(address[2]) or ""
  if self._http2 and self.secure and sock:getalpn() == "h2" then
    return self._http2.serve(self, sock, host, port, "")
  end
  sock:settimeout(self.idle_timeout)
  run(Connection.new(self, sock, host, port))
end

handle = WSAPIServer.handle

--- Closes connections that wait for another request.
function WSAPIServer:on_stop()
  for _, client in pairs(self._handlers) do
    if client.on_stop then
      client:on_stop()
    end
  end
end

--- A line in the error log: anybody's client can cause one.
---@param problem string
function WSAPIServer:handshake_failed(problem)
  self:_report("handshake: " .. problem)
end

-- For a request that asks for another protocol: what is to serve it instead of the application; or
-- true, it has been served.
function WSAPIServer:_upgrade(env, connection)
  local name = env.HTTP_UPGRADE
  local upgrade = name and self.upgrades[name:lower()]
  return upgrade and upgrade(env, connection)
end

-- ---- errors ----

function WSAPIServer:_report(text)
  if self._error_log then
    self._error_log(text)
  end
end

-- Of the request only what identifies it: the rest may be secret.
function WSAPIServer:_report_failure(connection, trace)
  local env = connection.env
  self:_report(("%s\n%s:%s, Host: %s"):format(trace, connection.host, connection.port,
                                              log.quoted(env and env.HTTP_HOST or "-")))
end

return WSAPIServer
