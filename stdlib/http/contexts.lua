-- Contexts of TLS for an HTTP client: one for each set of parameters, made once.

local contexts = {}
contexts.__index = contexts

local MAX_COUNT = 64

-- Servers may choose one of these.
local PROTOCOLS = { "h2", "http/1.1" }

function contexts.new()
  return setmetatable({ count = 0, entries = {} }, contexts)
end

-- The same for the same parameters. A function or an object stands for itself: it is kept as long
-- as its fingerprint is in use.
local function fingerprint(value)
  if type(value) == "table" then
    local items = {}
    for name, item in pairs(value) do
      items[#items + 1] = fingerprint(name) .. "=" .. fingerprint(item)
    end
    table.sort(items)
    return "{" .. table.concat(items, ",") .. "}"
  elseif type(value) == "string" then
    return ("%q"):format(value)
  elseif type(value) == "function" or type(value) == "userdata" then
    return ("%p"):format(value)
  end
  return tostring(value)
end

local function new_context(params, offers)
  local full = { mode = "client", alpn = offers and PROTOCOLS or nil }
  for name, value in pairs(params or {}) do
    full[name] = value
  end
  return require("moonlet.ssl").newcontext(full)
end

-- The context for parameters, or a context that is given in their place, and its fingerprint; with
-- `offers` it offers HTTP/2 unless they say what it offers. Or nil and what is wrong.
function contexts:find(params, offers)
  local print = fingerprint(params) .. (offers and " h2" or "")
  local entry = self.entries[print]
  if not entry then
    local context, message = params, nil
    if type(params) ~= "userdata" then
      context, message = new_context(params, offers)
    end
    if not context then
      return nil, message
    end
    entry = { context = context, params = params }
    self.entries[print] = entry
    self.count = self.count + 1
  end
  return entry.context, print
end

-- Whether there are so many that all should be forgotten.
function contexts:is_full()
  return self.count > MAX_COUNT
end

return contexts
