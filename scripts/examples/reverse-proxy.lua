-- A reverse proxy: passes requests on to another HTTP server, and its answers back.
--
--     moonlet scripts/examples/reverse-proxy.lua http://127.0.0.1:8000 [PORT]
--
-- Bodies pass through in pieces, both ways: neither their size nor their end matters. Connections
-- to the other server are kept and used again. Who waits for a slow server holds up nobody.

local http = require "moonlet.http"
local wsapi = require "moonlet.wsapi"

local PORT = 8080
local PIECE = 16384 -- bytes

-- The other server's answers go on as they are. Times are in seconds.
local client = http.Client {
  connect_timeout = 5, send_timeout = 60, answer_timeout = 60,
  redirects = 0, decode = false, proxy = false,
}

local backend = (arg[1] or ""):match("^https?://[^/]+")
if not backend then
  io.stderr:write("usage: reverse-proxy.lua URL [PORT]\n")
  os.exit(2)
end

-- They are about one connection only, as are those that the field Connection names.
local HOP_BY_HOP = {
  connection = true, ["keep-alive"] = true, te = true, trailer = true, upgrade = true,
  ["transfer-encoding"] = true, ["proxy-connection"] = true, ["proxy-authenticate"] = true,
  ["proxy-authorization"] = true,
}

local function hop_by_hop(connection)
  local names = setmetatable({}, { __index = HOP_BY_HOP })
  for name in (connection or ""):lower():gmatch("[^%s,]+") do
    names[name] = true
  end
  return names
end

-- The header fields of a request, as they go to the other server.
local function request_headers(env)
  local headers = {
    ["x-forwarded-for"] = (env.HTTP_X_FORWARDED_FOR and env.HTTP_X_FORWARDED_FOR .. ", " or "") ..
                          env.REMOTE_ADDR,
    ["x-forwarded-host"] = env.HTTP_HOST,
    ["x-forwarded-proto"] = env["wsapi.url_scheme"],
    ["content-type"] = env.CONTENT_TYPE,
  }
  local dropped = hop_by_hop(env.HTTP_CONNECTION)
  for variable, value in pairs(env) do
    local name = variable:match("^HTTP_(.*)")
    name = name and name:lower():gsub("_", "-")
    if name and not headers[name] and not dropped[name] and name ~= "host" and name ~= "expect" then
      headers[name] = value
    end
  end
  return headers
end

-- Those of an answer, in their order.
local function response_headers(response)
  local headers, all = {}, response.headers
  local dropped = hop_by_hop(all.connection)
  for i = 1, #all, 2 do
    if not dropped[all[i]:lower()] then
      table.insert(headers, { all[i], all[i + 1] })
    end
  end
  return headers
end

-- A request's body: a function that gives its pieces, and its length if that is known.
local function body_of(env)
  local length = tonumber(env.CONTENT_LENGTH)
  if length or env.HTTP_TRANSFER_ENCODING then
    return function()
      return env.input:read(PIECE)
    end, length
  end
end

local function fail(env, status, problem)
  env.error:write(("%s%s: %s"):format(backend, env.REQUEST_URI, problem))
  return status, { ["Content-Type"] = "text/plain" }, "The server behind this does not answer.\n"
end

local function proxy(env)
  if env.REQUEST_URI:sub(1, 1) ~= "/" then
    return 400, { ["Content-Type"] = "text/plain" }, "A path is expected.\n"
  end
  local body, length = body_of(env)
  local response, problem = client:request {
    url = backend .. env.REQUEST_URI,
    method = env.REQUEST_METHOD,
    headers = request_headers(env),
    body = body,
    length = length,
  }
  if not response then
    return fail(env, problem == "timeout" and 504 or 502, problem)
  end
  return response.status, response_headers(response), response -- which is an iterator
end

local server = wsapi.WSAPIServer({ "127.0.0.1", tonumber(arg[2] or PORT) }, proxy)
assert(server:start())
print(("Listening on http://127.0.0.1:%d/"):format(server.address[2]))
io.stdout:flush()
server:serve_forever()
