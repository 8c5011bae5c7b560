-- Modules as they are packaged, which know nothing of greenlets, after patch_c.

local databases = require "support.databases"
local program = require "support.program"

local PRELUDE = [[
  package.path = package.path .. ";/usr/share/lua/5.1/?.lua"
  require("moonlet.monkey").patch_c()

  -- The time that ten greenlets take for f(i), and their results.
  local function ten(f)
    local start, greenlets, results = moonlet.now(), {}, {}
    for i = 1, 10 do
      greenlets[i] = moonlet.spawn(f, i)
    end
    moonlet.joinall(greenlets, nil, true)
    for i = 1, 10 do
      results[i] = greenlets[i].value
    end
    return moonlet.now() - start, results
  end
]]

local function run(code, ...)
  return program.run_quietly(PRELUDE .. code:format(...))
end

describe("after patch_c", function()
  it("LuaSocket's http and its server, in one program, serve many at once", function()
    run [[
      local socket, http = require "socket", require "socket.http"
      assert(socket ~= require "moonlet.socket")
      local server = socket.bind("127.0.0.1", 0)
      local _, port = server:getsockname()
      local busiest, clients = 0, 0
      local function serve(client)
        local path = client:receive():match("GET (%%S+)")
        repeat until client:receive() == ""
        clients = clients + 1
        busiest = math.max(busiest, clients)
        repeat
          socket.sleep(0.01)
        until busiest == 10
        clients = clients - 1
        client:send("HTTP/1.0 200 OK\r\nContent-Length: " .. #path .. "\r\n\r\n" .. path)
        client:close()
      end
      local acceptor = moonlet.spawn(function()
        while true do
          moonlet.spawn(serve, server:accept())
        end
      end)
      local time, results = ten(function(i)
        return (http.request(("http://127.0.0.1:%%d/%%d"):format(port, i)))
      end)
      for i = 1, 10 do
        equal("/" .. i, results[i])
      end
      assert(time < 20, time)
      assert(acceptor:kill())
    ]]
  end)

  it("LuaSocket's timeouts, datagrams and select are what they were", function()
    run [[
      local socket = require "socket"
      local server = socket.bind("127.0.0.1", 0)
      server:settimeout(0.02)
      local nothing, message = cooperative(server.accept, server)
      equal(nil, nothing)
      equal("timeout", message)
      local udp, other = socket.udp(), socket.udp()
      udp:setsockname("127.0.0.1", 0)
      other:setpeername(udp:getsockname())
      moonlet.spawn(function() other:send("datagram") end)
      equal("datagram", udp:receive())
      moonlet.spawn(function() other:send("again") end)
      equal(udp, socket.select({ udp }, nil, 5)[1])
      equal(0, #socket.select({ server }, nil, 0.02))
      equal(nil, (socket.connect("127.0.0.1", 1)))
      local g = moonlet.spawn(server.accept, server)
      moonlet.sleep(0)
      assert(g:kill())
    ]]
  end)

  it("LuaSec's handshakes and transfers, both ends in one program, are many at once", function()
    run [[
      local socket, ssl, https = require "socket", require "ssl", require "ssl.https"
      assert(ssl ~= require "moonlet.ssl")
      local dir = os.tmpname()
      os.remove(dir)
      assert(os.execute(("mkdir %%s && cd %%s && openssl req -x509 -newkey ec -pkeyopt " ..
        "ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=localhost " ..
        "-keyout key.pem -out cert.pem 2>/dev/null"):format(dir, dir)))
      local context = assert(ssl.newcontext { mode = "server", protocol = "any",
                                              key = dir .. "/key.pem",
                                              certificate = dir .. "/cert.pem" })
      local server = socket.bind("127.0.0.1", 0)
      local _, port = server:getsockname()
      local clients = 0
      local function serve(client)
        client = assert(ssl.wrap(client, context))
        if client:dohandshake() then
          local path = client:receive():match("GET (%%S+)")
          repeat until client:receive() == ""
          clients = clients + 1
          repeat
            socket.sleep(0.01)
          until clients >= 10
          client:send("HTTP/1.0 200 OK\r\nContent-Length: " .. #path .. "\r\n\r\n" .. path)
        end
        client:close()
      end
      local acceptor = moonlet.spawn(function()
        while true do
          moonlet.spawn(serve, server:accept())
        end
      end)
      local time, results = ten(function(i)
        return (https.request(("https://127.0.0.1:%%d/%%d"):format(port, i)))
      end)
      for i = 1, 10 do
        equal("/" .. i, results[i])
      end
      assert(time < 20, time)

      -- Our own TLS uses the same library.
      local body = require("moonlet.http").request {
        url = ("https://127.0.0.1:%%d/ours"):format(port), ssl = { verify = "none" } }:body()
      equal("/ours", body)
      acceptor:kill()
      os.execute("rm -r " .. dir)
    ]]
  end)

  it("lua-redis waits in BLPOP while others push", function()
    local redis <close> = databases.redis()
    run([[
      local redis = require "redis"
      local function connect()
        return redis.connect("127.0.0.1", %d)
      end
      local pusher = moonlet.spawn(function()
        local client = connect()
        moonlet.sleep(0.2)
        for i = 1, 10 do
          client:rpush("list" .. i, i)
        end
      end)
      local time, results = ten(function(i)
        return connect():blpop("list" .. i, 9)[2]
      end)
      for i = 1, 10 do
        equal(tostring(i), results[i])
      end
      assert(time < 5, time)
      pusher:get()
      local nothing, message = moonlet.with_timeout(0.05, function()
        return connect():blpop("nothing", 9)
      end)
      equal(nil, nothing)
      equal("timeout", message)
    ]], redis.port)
  end)

  it("LuaSQL's queries to PostgreSQL are many at once, and end with a Timeout", function()
    local postgres <close> = databases.postgres()
    run([[
      local environment = require("luasql.postgres").postgres()
      local function connect()
        return assert(environment:connect(%q))
      end
      local function query(connection, text)
        local cursor = assert(connection:execute(text))
        local first, second = cursor:fetch()
        cursor:close()
        return second or first
      end
      local time, results = ten(function(i)
        return query(connect(), ("select pg_sleep(1), %%d"):format(i))
      end)
      for i = 1, 10 do
        equal(tostring(i), results[i])
      end
      assert(time < 8, time)
      local connection = connect()
      local start = moonlet.now()
      local nothing, message = moonlet.with_timeout(0.05, query, connection, "select pg_sleep(9)")
      equal(nil, nothing)
      equal("timeout", message)
      assert(moonlet.now() - start < 5)
      connection:close()
      local g = moonlet.spawn(query, connect(), "select pg_sleep(9)")
      moonlet.sleep(0.02)
      assert(g:kill())
      equal("1", query(connect(), "select 1"))
    ]], postgres.where)
  end)
end)
