--- A way into a running program: an interactive prompt for each connection.
--
--     local backdoor = require "moonlet.backdoor"
--     assert(backdoor.BackdoorServer("127.0.0.1:8001", { jobs = jobs }):start())
--
-- Then `nc 127.0.0.1 8001` or `telnet` gives a prompt as that of the command. Who gets there can do
-- what the program can: nobody is asked for a password, so it listens on the loopback interface or
-- a unix socket, unless told otherwise.
-- Differs: addresses | any | of the loopback interface or unix sockets, unless `anywhere` is set
-- Differs: output | all that is written to stdout in that greenlet | what `print` writes

local StreamServer = require("moonlet.server").StreamServer
local Object = require "moonlet.class"
local address = require "moonlet.address"
local moonlet = require "moonlet"

-- ---- one connection ----

-- What quit() raises.
local Quit = setmetatable({}, { __tostring = function()
  return "quit"
end })

-- Typed alone it ends the session; so it does when called.
local quit = setmetatable({}, {
  __call = function()
    error(Quit, 0)
  end,
  __tostring = function()
    return "quit() or exit() ends this session"
  end,
})

local Session = Object:extend("Session")

-- Variables that are set here are the session's own; others are those of env, or else globals.
function Session:new(client, env)
  self.client = client
  self.env = setmetatable({ quit = quit, exit = quit }, { __index = function(_, name)
    local value = env[name]
    if value == nil then
      value = _G[name]
    end
    return value
  end })
  self.env.print = function(...)
    local texts = table.pack(...)
    for i = 1, texts.n do
      texts[i] = tostring(texts[i])
    end
    client:send(table.concat(texts, "\t") .. "\n")
  end
end

-- A line that the user enters, or nil at the end.
function Session:ask(name, prompt)
  self.client:send(tostring(self.env[name] or prompt))
  return (self.client:receive())
end

-- A chunk of what begins with that line, or nil, a message; nil alone if input ends within it.
function Session:read_chunk(line)
  local text = line:gsub("^=", "return ")
  local chunk, message = load("return " .. text, "=backdoor", "t", self.env)
  if not chunk then
    chunk, message = load(text, "=backdoor", "t", self.env)
  end
  while not chunk and message:find("<eof>$") do
    local more = self:ask("_PROMPT2", ">> ")
    if not more then
      return nil
    end
    text = text .. "\n" .. more
    chunk, message = load(text, "=backdoor", "t", self.env)
  end
  return chunk, message
end

local function is_exit(err)
  return err == Quit or type(err) == "table" and err.is and err:is(moonlet.GreenletExit)
end

-- The message of an error with its traceback, down to the session.
local function describe(err)
  if is_exit(err) then
    return err
  end
  local text = tostring(err)
  local meta = getmetatable(err)
  if type(err) ~= "string" and not (type(meta) == "table" and meta.__tostring) then
    text = ("(error object is a %s value)"):format(type(err))
  end
  local traceback = debug.traceback(text, 2)
  return (traceback:gsub("\n\t%[C%]: in function 'xpcall'.*", ""))
end

-- Runs a chunk and shows its results, or its error.
function Session:run(chunk)
  local results = table.pack(xpcall(chunk, describe))
  if not results[1] then
    local err = results[2]
    if is_exit(err) then
      error(err, 0)
    end
    self.client:send(err .. "\n")
  elseif results.n > 1 then
    self.env.print(table.unpack(results, 2, results.n))
  end
end

function Session:loop()
  while true do
    local line = self:ask("_PROMPT", "> ")
    if not line or line == "quit" or line == "exit" then
      return
    end
    local chunk, message = self:read_chunk(line)
    if chunk then
      self:run(chunk)
    elseif message then
      self.client:send(message .. "\n")
    else
      return
    end
  end
end

-- ---- the server ----

--- A server that gives each client a prompt. An expression shows its values, and a statement may
-- take several lines; errors are shown with a traceback. `print` writes to the client, and what
-- blocks has only this client wait. The line `quit` or `exit`, or a call of these, ends a session.
-- Source: gevent.backdoor.BackdoorServer.
---@class moonlet.backdoor.BackdoorServer: moonlet.server.StreamServer
---@field env table what all sessions see beside globals
---@field banner string the first line
local BackdoorServer = StreamServer:extend("BackdoorServer")

local function is_loopback(host)
  return host == "localhost" or host == "::1" or host:find("^127%.") ~= nil or
         host:find("^::ffff:127%.") ~= nil
end

-- Without a host: the loopback interface, unless told otherwise.
local function nearby(where, anywhere)
  local parsed = type(where) ~= "userdata" and address.parse(where)
  if parsed and parsed.host == "" and not anywhere then
    return { "127.0.0.1", parsed.port }
  end
  return where
end

--- A backdoor. Options: `anywhere` (true: it may listen on any address), `banner`, and those of
-- StreamServer.
---@param where string|integer|table|moonlet.socket.Stream {host, port}, "unix:/path" ...; a port
--   alone is one of 127.0.0.1
---@param env? table variables for all sessions
---@param opts? table
---@raise an error for an address that others can reach, unless `anywhere` is set
function BackdoorServer:new(where, env, opts)
  if env ~= nil and type(env) ~= "table" then
    self:_bad_argument(2, "table expected, got " .. type(env))
  end
  local anywhere = type(opts) == "table" and opts.anywhere
  BackdoorServer.super.new(self, nearby(where, anywhere), nil, opts)
  local host = self.address[1]
  if host and not anywhere and not is_loopback(host) then
    self:_bad_argument(1, ("%s can be reached by others: set the option anywhere"):format(host))
  end
  self.env = env or {}
  self.banner = opts and opts.banner or ("%s, %s"):format(moonlet._VERSION, _VERSION)
end

--- A session with a client.
---@param client moonlet.socket.Stream
function BackdoorServer:handle(client)
  client:send(self.banner .. "\n")
  local ok, err = pcall(Session.loop, Session(client, self.env))
  if not ok and err ~= Quit then
    error(err, 0)
  end
end

return { BackdoorServer = BackdoorServer }
