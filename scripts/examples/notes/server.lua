-- A JSON API over PostgreSQL, with Redis as a cache.
--
--     moonlet scripts/examples/notes/server.lua POSTGRES REDIS [PORT]
--
-- where POSTGRES is a connection string ("host=127.0.0.1 dbname=notes") and REDIS is HOST:PORT.
--
--     curl -d '{"text": "hello"}' http://127.0.0.1:8000/notes
--     curl http://127.0.0.1:8000/notes
--     curl http://127.0.0.1:8000/notes/1
--     curl -X DELETE http://127.0.0.1:8000/notes/1
--
-- Two ways to use a library that was not written for greenlets: lua-redis runs on LuaSocket, which
-- moonlet.monkey makes cooperative. LuaSQL blocks in C, in libpq, where that does not reach: its
-- queries run in the threads of a ThreadPool. It needs lua-sql-postgres, lua-redis, lua-dkjson.

require("moonlet.monkey").patch_socket() -- before anything takes LuaSocket's functions

local folder = arg[0]:match("^(.*/)") or "./"
package.path = folder .. "?.lua;" .. package.path

local ThreadPool = require("moonlet.threadpool").ThreadPool
local cache = require "cache"
local json = require "dkjson"
local wsapi = require "moonlet.wsapi"

local PORT = 8000
local THREADS = 4 -- and connections to PostgreSQL
local MAX_BODY = 65536 -- bytes

local postgres = arg[1]
local redis_host, redis_port = (arg[2] or ""):match("^(.*):(%d+)$")
if not redis_port then
  io.stderr:write("usage: server.lua POSTGRES REDIS [PORT]\n")
  os.exit(2)
end

-- ---- storage ----

local threads = ThreadPool(THREADS)
local remembered = cache.new(redis_host, tonumber(redis_port))

local function query(...)
  return threads:apply(function(...)
    return require("database").query(...)
  end, table.pack(postgres, ...))
end

local function note_of(row)
  return { id = math.tointeger(tonumber(row.id)), text = row.text, created = row.created }
end

-- ---- answers ----

local JSON = "application/json"

local function answer(status, value, headers)
  headers = headers or {}
  headers["Content-Type"] = JSON
  return status, headers, type(value) == "string" and value or json.encode(value)
end

local function fail(status, problem)
  return answer(status, { error = problem })
end

local function list()
  local notes = setmetatable({}, { __jsontype = "array" })
  for i, row in ipairs(query("SELECT id, text, created FROM notes ORDER BY id DESC LIMIT 100")) do
    notes[i] = note_of(row)
  end
  return answer(200, notes)
end

local function create(env)
  local body = json.decode(env.input:read(MAX_BODY) or "")
  local text = type(body) == "table" and body.text
  if type(text) ~= "string" or not utf8.len(text) or text:find("\0", 1, true) then
    return fail(400, "an object with a text is expected")
  end
  local rows = query("INSERT INTO notes (text) VALUES ($1) RETURNING id, text, created", text)
  local note = note_of(rows[1])
  return answer(201, note, { Location = "/notes/" .. note.id })
end

local function read(_, id)
  local known = remembered:get("note:" .. id)
  if known then
    return answer(200, known, { ["X-Cache"] = "hit" })
  end
  local row = query("SELECT id, text, created FROM notes WHERE id = $1", id)[1]
  if not row then
    return fail(404, "not found")
  end
  local text = json.encode(note_of(row))
  remembered:set("note:" .. id, text)
  return answer(200, text, { ["X-Cache"] = "miss" })
end

local function delete(_, id)
  local rows = query("DELETE FROM notes WHERE id = $1 RETURNING id", id)
  remembered:forget("note:" .. id)
  if not rows[1] then
    return fail(404, "not found")
  end
  return 204
end

-- ---- the server ----

local COLLECTION = { GET = list, HEAD = list, POST = create }
local ITEM = { GET = read, HEAD = read, DELETE = delete }

local function app(env)
  local path = env.PATH_INFO
  local id = math.tointeger(tonumber(path:match("^/notes/(%d+)$")))
  local methods = path == "/notes" and COLLECTION or id and id < 1 << 31 and ITEM
  if not methods then
    return fail(404, "not found")
  end
  local handle = methods[env.REQUEST_METHOD]
  if not handle then
    return 405, { Allow = methods == ITEM and "GET, HEAD, DELETE" or "GET, HEAD, POST" }
  end
  return handle(env, id)
end

query([[CREATE TABLE IF NOT EXISTS notes (
  id serial PRIMARY KEY, text text NOT NULL, created timestamptz NOT NULL DEFAULT now())]])
local server = wsapi.WSAPIServer({ "127.0.0.1", tonumber(arg[3] or PORT) }, app, { log = false })
assert(server:start())
print(("Listening on http://127.0.0.1:%d/"):format(server.address[2]))
io.stdout:flush()
server:serve_forever()
threads:kill()
