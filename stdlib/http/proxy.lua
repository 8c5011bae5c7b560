-- Which proxy a request goes through.

local authorization = require "moonlet.http.authorization"
local url = require "moonlet.http.url"

local proxy = {}

-- Anybody may set HTTP_PROXY where requests become variables, in CGI.
local function environment(name)
  return os.getenv(name) or name ~= "http_proxy" and os.getenv(name:upper()) or nil
end

-- Whether an item of no_proxy is this host, a domain above it, or either with the port.
local function is_meant(item, parts)
  local name, port = item:match("^(.-):(%d+)$")
  if name and not name:find(":", 1, true) then
    item = name
  else
    port = nil
  end
  item = item:gsub("^%.", ""):gsub("^%[(.*)%]$", "%1"):lower()
  return (not port or tonumber(port) == parts.port) and
           (item == parts.host or parts.host:sub(-#item - 1) == "." .. item)
end

local function is_excepted(parts, list)
  for item in (list or ""):gmatch("[^,%s]+") do
    if item == "*" or is_meant(item, parts) then
      return true
    end
  end
  return false
end

local function from_environment(parts)
  if is_excepted(parts, environment("no_proxy")) then
    return nil
  end
  return environment(parts.scheme .. "_proxy") or environment("all_proxy")
end

-- The proxy that a text means: a table with host, port and authorization; nil and what is wrong.
function proxy.parse(text)
  local parts, problem = url.parse(text:find("://", 1, true) and text or "http://" .. text)
  if not parts then
    return nil, problem
  elseif parts.scheme ~= "http" then
    return nil, ("a proxy is spoken to by http, not %s"):format(parts.scheme)
  end
  return { host = parts.host, port = parts.port, authorization = authorization.basic(parts.user) }
end

-- The environment's proxy for a URL; nil: none; nil and what is wrong.
function proxy.find(parts)
  local text = from_environment(parts)
  if not text or text == "" then
    return nil
  end
  local found, problem = proxy.parse(text)
  if not found then
    return nil, ("bad proxy in the environment for %s (%s)"):format(parts.scheme, problem)
  end
  return found
end

return proxy
