-- Unmodified libraries that wait with their own locks held, and with errors queued.

local certificates = require "support.certificates"
local program = require "support.program"

local PRELUDE = [[
  package.path = package.path .. ";/usr/share/lua/5.1/?.lua"
  require("moonlet.monkey").patch_c()
]]

local function run(code, ...)
  return program.run_quietly(PRELUDE .. code:format(...))
end

describe("after patch_c", function()
  it("greenlets share a handle of sqlite, which waits for another one's lock", function()
    run [[
      local path = os.tmpname()
      local _ <close> = setmetatable({}, { __close = function() os.remove(path) end })
      local environment = require("luasql.sqlite3").sqlite3()
      local writer, shared = environment:connect(path), environment:connect(path, 20000)
      assert(writer:execute "CREATE TABLE words (word TEXT, number INTEGER)")
      for round = 1, 3 do
        assert(writer:execute "BEGIN EXCLUSIVE")
        local greenlets = {}
        for i = 1, 5 do
          greenlets[i] = moonlet.spawn(function()
            assert(shared:execute(("INSERT INTO words VALUES ('a word', %%d)"):format(i)))
            local cursor = assert(shared:execute "SELECT count(*) FROM words")
            local count = cursor:fetch()
            cursor:close()
            return math.tointeger(count)
          end)
        end
        moonlet.sleep(0.02)
        for i = 1, 5 do
          equal(false, greenlets[i]:ready())
        end
        assert(writer:execute "COMMIT")
        local most = 0
        for i = 1, 5 do
          most = math.max(most, greenlets[i]:get())
        end
        equal(5 * round, most)
      end
      shared:close()
      writer:close()
      environment:close()
    ]]
  end)

  it("greenlets use libldap at once, which looks up names with a lock held", function()
    run [[
      local lualdap = require "lualdap"
      local server = assert(require("moonlet.socket").bind("127.0.0.1", 0))
      local busiest, clients = 0, 0
      local acceptor = moonlet.spawn(function()
        for client in function() return server:accept() end do
          moonlet.spawn(function()
            clients = clients + 1
            busiest = math.max(busiest, clients)
            client:receive(client:receive(2):byte(2))
            repeat
              moonlet.sleep(0.01)
            until busiest > 1
            client:send "\x30\x0c\x02\x01\x01\x61\x07\x0a\x01\x00\x04\x00\x04\x00"
            moonlet.sleep(0.05)
            clients = clients - 1
            client:close()
          end)
        end
      end)
      local _, port = server:getsockname()
      local greenlets = {}
      for i = 1, 5 do
        greenlets[i] = moonlet.spawn(function()
          local address = ("localhost:%%d"):format(port)
          local connection = assert(lualdap.open_simple(address, "cn=a", "b"))
          connection:close()
          return true
        end)
      end
      for i = 1, 5 do
        equal(true, greenlets[i]:get())
      end
      acceptor:kill()
      server:close()
      os.exit(0) -- unloaded, libldap would lose its memory
    ]]
  end)

  it("LuaSec's connections go on while others fail, of LuaSec and of moonlet.ssl", function()
    local folder = certificates.folder()
    finally(function() folder:remove() end)
    folder:root "ca"
    run([[
      local socket, ssl, own = require "socket", require "ssl", require "moonlet.ssl"
      assert(ssl ~= own)
      local server = assert(socket.bind("127.0.0.1", 0))
      local _, port = server:getsockname()
      local offered = { mode = "server", protocol = "any", certificate = %q, key = %q }
      local wanted = { mode = "client", protocol = "any", verify = "none" }
      local strict = { mode = "client", protocol = "any", verify = "peer" }
      local wrong = { mode = "client", protocol = "any", certificate = "/nowhere" }
      local function serve(client)
        client = assert(ssl.wrap(client, offered))
        if client:dohandshake() then
          for line in function() return client:receive() end do
            client:send(line .. "\n")
          end
        end
        client:close()
      end
      local acceptor = moonlet.spawn(function()
        while true do
          moonlet.spawn(serve, server:accept())
        end
      end)
      local function talk(lines)
        local client = assert(ssl.wrap(assert(socket.connect("127.0.0.1", port)), wanted))
        assert(client:dohandshake())
        for i = 1, lines do
          assert(client:send(i .. "\n"))
          equal(tostring(i), client:receive())
          socket.sleep(0.002)
        end
        client:close()
        return true
      end
      local failures, talking = 0, true
      local function fail()
        while talking do
          local client = assert(ssl.wrap(assert(socket.connect("127.0.0.1", port)), strict))
          equal(false, client:dohandshake())
          client:close()
          equal(nil, (ssl.newcontext(wrong)))
          equal(nil, (own.newcontext(wrong)))
          failures = failures + 1
        end
      end
      local talkers, failers = {}, {}
      for i = 1, 3 do failers[i] = moonlet.spawn(fail) end
      for i = 1, 8 do talkers[i] = moonlet.spawn(talk, 20) end
      equal(true, talk(20))
      for i = 1, 8 do equal(true, talkers[i]:get()) end
      while failures <= 3 do socket.sleep(0.01) end
      talking = false
      for i = 1, 3 do failers[i]:get() end
      acceptor:kill()
    ]], folder:file "ca.pem", folder:file "ca.key")
  end)
end)
