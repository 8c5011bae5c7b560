--- TLS with LuaSec's API, whose calls block only their greenlet.
--
-- A connection is made by wrap() around a connected socket of moonlet.socket, whose place it
-- takes; its receive, send, settimeout and so on are those of sockets. A server's handshake
-- belongs in the greenlet that serves the client, so that a slow one delays nobody else.
--
--     local conn = assert(ssl.connect("example.org", 443, nil, 10))
--     conn:send("GET / HTTP/1.0\r\nHost: example.org\r\n\r\n")
--     print(conn:receive("*a"))
--
-- With a timeout of 0 a call that had to wait says "wantread" or "wantwrite" instead of
-- "timeout". A peer that ends the connection without saying so within TLS may not be who ended
-- it: receive("*a") then returns nil, "closed" and what has come, instead of all as a string.
--
-- The library is OpenSSL 3. Renegotiation and compression are off, and TLS before 1.2 unless
-- `protocol` asks for it.
---@field config table  what the OpenSSL at hand has: protocols, options, curves, algorithms,
--   capabilities; each a table of name = true
-- Differs: certificates | not verified unless asked for | a client verifies the server's chain and
--   name against the system's store, unless `verify` says otherwise
-- Differs: errors of a handshake | OpenSSL's own words | with what is wrong with which certificate

local core = require "moonlet.ssl.core"
local socket = require "moonlet.socket"
local socket_core = require "moonlet.socket.core"

local settings = core.context

local ssl = {
  _VERSION = "1.2.0", -- of LuaSec, whose API it is
  config = core.config,
}

-- ---- parameters ----

local LIST = { string = true, table = true }

local TYPES = {
  mode = { string = true },
  protocol = { string = true },
  key = { string = true },
  certificate = { string = true },
  password = { string = true, ["function"] = true },
  certificates = { table = true },
  cafile = { string = true },
  capath = { string = true },
  verify = LIST,
  verifyext = LIST,
  options = LIST,
  ciphers = { string = true },
  ciphersuites = { string = true },
  depth = { number = true },
  curve = { string = true },
  curveslist = { string = true },
  dhparam = { string = true, ["function"] = true },
  alpn = { string = true, table = true, ["function"] = true },
  dane = { boolean = true, table = true },
  servername = { string = true },
}

-- The caller's caller has given the parameters, as an argument of that function.
local function check_params(params, number, name)
  if type(params) ~= "table" then
    error(("bad argument #%d to '%s' (table expected, got %s)"):format(
            number, name, params == nil and "no value" or type(params)), 3)
  end
  for field, types in pairs(TYPES) do
    local value = params[field]
    if value ~= nil and not types[type(value)] then
      local expected = {}
      for type_name in pairs(types) do
        expected[#expected + 1] = type_name
      end
      table.sort(expected)
      error(("bad field '%s' (%s expected, got %s)"):format(field, table.concat(expected, " or "),
                                                             type(value)), 3)
    end
  end
end

-- Names in the form of the wire: each after its length.
local function to_wire(names)
  local wire = {}
  for i, name in ipairs(type(names) == "table" and names or { names }) do
    if type(name) ~= "string" or #name == 0 or #name > 255 then
      return nil, ("alpn: invalid name at %d (a string of 1 to 255 bytes expected)"):format(i)
    end
    wire[i] = string.char(#name) .. name
  end
  if #wire == 0 then
    return nil, "alpn: an empty list"
  end
  return table.concat(wire)
end

local function from_wire(wire)
  local names, at = {}, 1
  while at <= #wire do
    names[#names + 1], at = string.unpack("s1", wire, at)
  end
  return names
end

-- ---- setting up a context, field by field ----

-- The results of a setting, with the field's name and value before what is wrong.
local function named(field, value, ok, message)
  if ok then
    return true
  end
  return nil, ("%s '%s': %s"):format(field, value, message)
end

local function unpack_list(list)
  if type(list) == "table" then
    return table.unpack(list)
  end
  return list
end

-- A password that is a function is asked only if the key needs one.
local function set_key(context, file, password)
  local given = type(password) == "string" and password or nil
  local ok, message, asked = settings.setkey(context, file, given)
  if not ok and asked and type(password) == "function" then
    ok, message = settings.setkey(context, file, password())
  elseif not ok and asked and not given then
    message = "a password is needed"
  end
  return named("key", file, ok, message)
end

local function set_certificates(context, params)
  for _, one in ipairs(params.certificates or { params }) do
    local ok, message = true, nil
    if one.certificate then
      ok, message = named("certificate", one.certificate,
                          settings.setcertificate(context, one.certificate))
    end
    if ok and one.key then
      ok, message = set_key(context, one.key, one.password)
    end
    if not ok then
      return nil, message
    end
  end
  return true
end

-- Servers verify only by the roots they were given: the system's are for servers, not for clients.
local function set_trust(context, params)
  local server = settings.isserver(context)
  local verify = params.verify or (server and "none" or "peer")
  local verifies, message = settings.setverify(context, unpack_list(verify))
  if verifies == nil then
    return nil, message
  end
  if not server and not params.verify then
    settings.neednames(context)
  end
  if params.cafile or params.capath then
    return named(params.cafile and "cafile" or "capath", params.cafile or params.capath,
                 settings.setlocations(context, params.cafile, params.capath))
  elseif server and verifies then
    return nil, "cafile or capath is needed to verify clients"
  end
  return not verifies or settings.setsystem(context)
end

local function set_dhparam(context, dhparam)
  if type(dhparam) == "function" then
    dhparam = dhparam(false, 2048)
  end
  return settings.setdhparam(context, dhparam)
end

-- Of a server's function: offered names in, one name or a list by preference out.
local function selecting(choose)
  return function(offer)
    local names = choose(from_wire(offer))
    return names and (to_wire(names)) or nil
  end
end

local function set_alpn(context, alpn)
  if type(alpn) == "function" then
    if not settings.isserver(context) then
      return nil, "alpn: a function is for servers"
    end
    return settings.setalpn(context, selecting(alpn))
  end
  local wire, message = to_wire(alpn)
  if not wire then
    return nil, message
  end
  return settings.setalpn(context, wire)
end

local function set_dane(context, dane)
  return settings.setdane(context, unpack_list(type(dane) == "table" and dane or {}))
end

-- In this order: whether a cipher may be used depends on what was set before.
local STEPS = {
  { "options", function(context, list) return settings.setoptions(context, unpack_list(list)) end },
  { "verifyext", function(context, list)
    return settings.setverifyext(context, unpack_list(list))
  end },
  { "ciphers", function(context, text)
    return named("ciphers", text, settings.setciphers(context, text))
  end },
  { "ciphersuites", function(context, text)
    return named("ciphersuites", text, settings.setciphersuites(context, text))
  end },
  { "depth", settings.setdepth },
  { "dhparam", set_dhparam },
  { "curve", function(context, name)
    return named("curve", name, settings.setgroups(context, name))
  end },
  { "curveslist", function(context, names)
    return named("curveslist", names, settings.setgroups(context, names))
  end },
  { "alpn", set_alpn },
  { "dane", set_dane },
}

local function set_all(context, params)
  local ok, message = set_certificates(context, params)
  if ok then
    ok, message = set_trust(context, params)
  end
  for _, step in ipairs(STEPS) do
    local field, set = step[1], step[2]
    if ok and params[field] then
      ok, message = set(context, params[field])
    end
  end
  return ok, message
end

local MODES = { client = false, server = true }

local function new_context(params)
  local server = MODES[params.mode]
  if server == nil then
    return nil, ("invalid mode (%s)"):format(params.mode)
  end
  local context, message = settings.new(server, params.protocol or "any")
  if not context then
    return nil, message
  end
  local ok
  ok, message = set_all(context, params)
  if not ok then
    return nil, message
  end
  return context
end

--- What connections have in common: certificates, whom to trust, protocols. It costs time and
-- memory, so programs with many connections make one for all of them.
---@class moonlet.ssl.Context

--- A context, for any number of connections. Files are in the PEM format. Fields of params:
--
--     mode          "client" or "server"
--     protocol      "any" (1.2 or later; the default), "tlsv1_3", "tlsv1_2" ...
--     certificate   a file: the own certificate, then those between it and the root
--     key           a file: its private key
--     password      of the key, or a function that returns it
--     certificates  a list of tables with the three fields above
--     cafile        a file, or capath a folder: whom to trust (default for clients: whom the
--                   system trusts)
--     verify        "none", "peer", "fail_if_no_peer_cert", "client_once" or a list of these
--     verifyext     "lsec_continue" (go on, and let getpeerverification tell),
--                   "lsec_ignore_purpose", "crl_check", "crl_check_chain" or a list of these
--     servername    the server's name, as conn:sni(name), if given to wrap
--     options       names of ssl.config.options
--     ciphers       up to TLS 1.2, as `openssl ciphers` has them; ciphersuites for TLS 1.3
--     depth         certificates between the own one and the root, at most
--     curve         or curveslist: names, as "X25519:P-256"
--     dhparam       a PEM text, or a function that returns it
--     alpn          a client's list of protocols; a server's by preference, or a function from
--                   the client's list to one name or a list
--     dane          true or a list of flags, see conn:setdane
--
-- Without `verify` a client verifies the server's chain and its name, which has to be known. With
-- "peer" it verifies the name only if there is one.
---@param params table
---@return moonlet.ssl.Context|nil
---@return string # what is wrong, with the name of the field
---@raise an error for a field of the wrong type
-- Source: LuaSec.
function ssl.newcontext(params)
  check_params(params, 1, "newcontext")
  return new_context(params)
end

--- A certificate from its text.
---@param pem string
---@return moonlet.ssl.Certificate|nil
---@return string # why there is none
-- Source: LuaSec.
function ssl.loadcertificate(pem)
  return core.certificate.load(pem)
end

-- ---- connections ----

--- A connection under TLS: a socket with some methods more.
---@class moonlet.ssl.Connection: moonlet.socket.Secure
local Connection = socket_core.Secure:extend("SSL connection")

-- Why a socket cannot be put under TLS, or nil.
local function socket_problem(sock)
  local is_socket = type(sock) == "userdata" and sock.is and sock:is(socket_core.Socket)
  if not is_socket or not sock:is(socket_core.Stream) then
    local got = is_socket and tostring(sock) or sock == nil and "no value" or type(sock)
    return "stream of moonlet.socket expected, got " .. got
  end
  return not sock.class:find "client" and "socket is not connected" or nil
end

--- Puts a connected socket under TLS. The connection takes the socket's place: the socket itself is
-- left without a descriptor. dohandshake() comes next.
---@param sock moonlet.socket.Stream
---@param params table|moonlet.ssl.Context  a context, or the parameters of a new one
---@return moonlet.ssl.Connection|nil
---@return string # what is wrong with the parameters; or "closed", "unread data"
---@raise an error for a field of the wrong type
-- Source: LuaSec.
-- Differs: data received before the handshake is lost | the socket is refused with "unread data"
function ssl.wrap(sock, params)
  local context = params
  local problem = socket_problem(sock)
  if problem then
    error(("bad argument #1 to 'wrap' (%s)"):format(problem), 2)
  end
  if type(params) ~= "userdata" then
    local message
    check_params(params, 2, "wrap")
    context, message = new_context(params)
    if not context then
      return nil, message
    end
  end
  local conn, message = socket_core.upgrade(sock, core.transport(context), Connection)
  if not conn then
    return nil, message
  end
  if type(params) == "table" and params.servername and not settings.isserver(context) then
    conn:sni(params.servername)
  end
  return conn
end

--- A connection to a TLS server, after the handshake; the name that its certificate has to be for
-- is `host`, unless params.servername is another.
---@param host string
---@param port integer
---@param params? table|moonlet.ssl.Context
---@param timeout? number|moonlet.Timeout  seconds for all of it
---@return moonlet.ssl.Connection|nil
---@return string # "timeout", "connection refused", what is wrong with a certificate ...
---@return integer # errno, if it has one
-- Source: gevent.socket.create_connection.
function ssl.connect(host, port, params, timeout)
  return socket.create_connection({ host = host, port = port, ssl = params or true }, timeout)
end

--- Agrees with the peer on keys, and verifies who it is. settimeout(seconds, "t") bounds all of it.
---@return true|nil
---@return string # "timeout", "closed" or what is wrong
---@raise what a function for ALPN or the server's name raises
-- Source: LuaSec.
function Connection:dohandshake()
  local ok, message = self:handshake()
  if ok then
    return true
  end
  local raised, err = self.transport:raised()
  if raised then
    error(err, 0)
  end
  return nil, message
end

--- Names. For a client, the name of the server it wants, which the certificate has to be for; an
-- IP address is not sent, but verified. For a server, its contexts by the names that clients may
-- ask for. To be called before the handshake.
---@param names string|table|function server: name -> context, or a function of the name (nil if
--   the client sends none) that returns a context or nil
---@param strict? boolean server: a client that asks for none of them is refused
---@return true
---@raise an error for a name that cannot be one
-- Source: LuaSec.
-- Differs: a client's name is only sent | the certificate has to be for it
function Connection:sni(names, strict)
  local transport = self.transport
  if type(names) == "string" then
    local ok, message = transport:setname(names)
    if not ok then
      error(("bad argument #1 to 'sni' (%s)"):format(message), 2)
    end
    return true
  end
  local choose = names
  if type(names) == "table" then
    choose = function(name)
      return name and (names[name] or names[name:lower()])
    end
  elseif type(names) ~= "function" then
    error(("bad argument #1 to 'sni' (string, table or function expected, got %s)"):format(
            names == nil and "no value" or type(names)), 2)
  end
  transport:setselect(choose, strict)
  return true
end

--- The name that the client has asked for.
---@return string?
-- Source: LuaSec.
function Connection:getsniname()
  return self.transport:servername()
end

--- The peer's certificate, or another of its chain.
---@param n? integer 1: its own, the default; 2 and so on: towards the root
---@return moonlet.ssl.Certificate?
-- Source: LuaSec.
function Connection:getpeercertificate(n)
  return self.transport:peercertificate(n)
end

--- All the certificates that the peer has sent, its own first.
---@return moonlet.ssl.Certificate[]
-- Source: LuaSec.
function Connection:getpeerchain()
  return self.transport:peerchain()
end

--- Whether the peer's certificate is good: of interest with verify = "none" or "lsec_continue".
---@return boolean
---@return string|table # what is wrong; with "lsec_continue" lists of texts by depth + 1
-- Source: LuaSec.
function Connection:getpeerverification()
  return self.transport:verification()
end

--- The message by which the peer ended its part of the handshake.
---@return string?
-- Source: LuaSec.
function Connection:getpeerfinished()
  return self.transport:finished(true)
end

--- The message by which this side ended its part of the handshake.
---@return string?
-- Source: LuaSec.
function Connection:getfinished()
  return self.transport:finished(false)
end

--- What the two sides have agreed on.
---@param field? string only this one
---@return any # without a field a table { protocol, cipher, key, authentication, encryption, mac,
--   bits, algbits, export, compression, resumed }; nil before the handshake
-- Source: LuaSec.
-- Differs: no field `resumed` | tells whether a session was resumed
function Connection:info(field)
  local cipher, description, bits, algbits, protocol, resumed = self.transport:info()
  if not cipher then
    return nil
  end
  local parts = {}
  for name, value in description:gmatch("(%a+)=(%S+)") do
    parts[name] = value
  end
  local info = {
    protocol = protocol, cipher = cipher, bits = bits, algbits = algbits, resumed = resumed,
    key = parts.Kx, authentication = parts.Au, encryption = parts.Enc, mac = parts.Mac,
    export = false, compression = nil,
  }
  if field then
    return info[field]
  end
  return info
end

--- The protocol that was chosen by ALPN.
---@return string?
-- Source: LuaSec.
function Connection:getalpn()
  return self.transport:alpn()
end

--- What the last call that did not finish waits for.
---@return "nothing"|"read"|"write"
-- Source: LuaSec.
function Connection:want()
  return self.transport:want()
end

--- Keys for other uses, which both sides have and nobody else.
---@param label string
---@param size integer bytes
---@param context? string
---@return string|nil
---@return string # why there are none
-- Source: LuaSec; RFC 5705.
function Connection:exportkeyingmaterial(label, size, context)
  return self.transport:export(label, size, context)
end

--- Verifies the server by records of the DNS, which settlsa adds; for contexts with `dane`.
---@param hostname string
---@return true|nil
---@return string # why not
-- Source: LuaSec; RFC 6698.
function Connection:setdane(hostname)
  return self.transport:setdane(hostname)
end

--- Adds the data of a TLSA record.
---@param usage integer
---@param selector integer
---@param matching integer
---@param data string as bytes
---@return true|nil
---@return string # why not
-- Source: LuaSec; RFC 6698.
function Connection:settlsa(usage, selector, matching, data)
  return self.transport:settlsa(usage, selector, matching, data)
end

--- What lets a client connect once more with less work, see Connection:setsession. With TLS 1.3 a
-- server sends it some time after the handshake: it is there once something was received.
---@class moonlet.ssl.Session

--- The session that the server has offered last.
---@return moonlet.ssl.Session?
-- Source: Python's SSLSocket.session.
function Connection:getsession()
  return self.transport:getsession()
end

--- Offers the server to resume a session. To be called after sni() and before the handshake;
-- info("resumed") then tells whether the server agreed. Certificates are not verified again, so a
-- session must be of the same context and name.
---@param session moonlet.ssl.Session
---@return true|nil
---@return string # why not
-- Source: Python's SSLSocket.session.
function Connection:setsession(session)
  return self.transport:setsession(session)
end

return ssl
