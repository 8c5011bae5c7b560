-- Requests that come as a whole and are answered by a string, on servers without logs: most of
-- what they take is done in C, by objects that are used again.

local core = require "moonlet.testing.core"
local event = require "moonlet.event"
local http = require "support.http"
local moonlet = require "moonlet"
local servers = require "support.servers"
local support = require "support"
local wsapi = require "moonlet.wsapi"

local get, post = http.get, http.post

-- An application that waits as long as the query says, and names the client and the path.
local function naming(env)
  if env.QUERY_STRING ~= "" then
    moonlet.sleep(tonumber(env.QUERY_STRING))
  end
  return 200, nil, env.REMOTE_ADDR .. ":" .. env.REMOTE_PORT .. env.PATH_INFO
end

-- The body of the answer to a request on a connection that stays open.
local function exchange(client, request)
  assert(client:send(request))
  return (http.receive(client):match("\r\n\r\n(.*)"))
end

local function name_of(client)
  local host, port = client:getsockname()
  return ("%s:%d"):format(host, port)
end

describe("moonlet.wsapi: exchanges:", function()
  for _, pinned in ipairs { false, true } do
    local how = pinned and ", where nothing can yield" or ""

    describe("an application" .. how, function()
      before_each(function() core.always_pin(pinned) end)
      after_each(function() core.always_pin(false) end)

      it("answers one request after another, whether it waits or not", function()
        local it <close> = http.serve(naming)
        local client <close> = http.connect(it)
        for i = 1, 300 do
          local path = "/" .. i
          assert.equal(name_of(client) .. path,
                       exchange(client, get(path .. (i % 3 == 0 and "?0" or ""))))
        end
      end)

      it("has requests of all kinds mixed", function()
        local it <close> = http.serve(function(env)
          local text = env.input:read("a") or env.PATH_INFO
          return 200, nil, env.HTTP_LIST and { text, "!" } or text
        end)
        local client <close> = http.connect(it)
        for i = 1, 20 do
          assert.equal("/one", exchange(client, get("/one")))
          assert.equal("body" .. i, exchange(client, post("/", "body" .. i)))
          assert(client:send("GET /cut HTTP/1.1\r\nHo"))
          moonlet.sleep(0)
          assert.equal("/cut", exchange(client, "st: here\r\n\r\n"))
          assert.equal("/list!", exchange(client, get("/list", "List: 1")))
          assert(client:send(get("/first") .. get("/second")))
          local both = http.receive(client)
          both = both:find("/second$") and both or both .. http.receive(client)
          assert.matches("/first.*/second$", both)
        end
      end)

      it("that fails is answered 500, and the next client is served", function()
        local it <close> = http.serve(function(env)
          moonlet.sleep(0)
          if env.PATH_INFO == "/wrong" then
            return 200, { ["A:"] = "b" }, "x"
          end
          return env.PATH_INFO == "/fail" and error("oops") or 200, nil, "fine"
        end)
        for _ = 1, 3 do
          assert.equal(500, http.one(it, get("/fail")).status)
          assert.equal(500, http.one(it, get("/wrong")).status)
          assert.equal("fine", http.one(it, get("/")).body)
        end
      end)
    end)
  end

  it("of many clients are not mixed up", function()
    local it <close> = http.serve(naming)
    local greenlets = {}
    for i = 1, 40 do
      greenlets[i] = moonlet.spawn(function()
        for round = 1, 10 do
          local client <close> = http.connect(it)
          for _ = 1, i % 3 + 1 do
            local path = ("/%d-%d"):format(i, round)
            local query = (i + round) % 2 == 0 and "?0.0001" or ""
            assert.equal(name_of(client) .. path, exchange(client, get(path .. query)))
          end
        end
      end)
    end
    for _, greenlet in ipairs(greenlets) do
      greenlet:get()
    end
    support.eventually(function() return next(it._handlers) == nil end)
  end)

  it("leave an answer that is too long for the kernel to be sent as it can", function()
    local text = ("x"):rep(60000)
    local it <close> = http.serve(function() return 200, nil, text end)
    assert(it.socket:setoption("send-buffer-size", 16384)) -- which clients' sockets have from it
    local client <close> = http.connect(it)
    for _ = 1, 5 do
      assert.equal(text, exchange(client, get("/")))
    end
  end)

  it("leave a last answer to be sent as it can, too, and end after it", function()
    local text = ("x"):rep(60000)
    local it <close> = http.serve(function() return 200, nil, text end)
    assert(it.socket:setoption("send-buffer-size", 16384))
    for _ = 1, 3 do
      assert.equal(text, http.one(it, get("/", "Connection: close")).body)
    end
  end)

  for _, logs in ipairs { false, true } do
    local how = logs and ", logged" or ""
    it("end with an answer that reaches a client who goes on sending" .. how, function()
      local asked
      local it <close> = http.serve(function(env)
        asked = true
        return naming(env)
      end, { log = logs and function() end })
      for _ = 1, 20 do
        asked = false
        local client <close> = http.connect(it)
        assert(client:send(get("/?0.002", "Connection: close")))
        support.eventually(function() return asked end)
        assert(client:send("nobody asked for this"))
        assert.matches("%d/$", http.receive(client))
        assert.is_nil((client:recv()))
      end
      support.eventually(function() return next(it._handlers) == nil end)
    end)
  end

  it("end for the client with the last answer, though a method `handle` has more to do", function()
    local Slow = wsapi.WSAPIServer:extend("Slow")
    function Slow:handle(sock, address)
      Slow.super.handle(self, sock, address)
      self.go_on:wait()
    end
    local it <close> = servers.started(Slow, servers.HERE, naming, { log = false })
    it.go_on = event.Event()
    local client <close> = http.connect(it)
    exchange(client, get("/"))
    assert.equal(name_of(client) .. "/", exchange(client, get("/", "Connection: close")))
    assert.same({ nil, "closed", "" }, { client:receive("*a") })
    assert.is_not_nil(next(it._handlers))
    it.go_on:set()
  end)

  it("are limited in time: each wait for a request anew", function()
    local it <close> = http.serve(naming, { idle_timeout = 0.1 })
    local client <close> = http.connect(it)
    local start = support.clock()
    for _ = 1, 5 do
      moonlet.sleep(0.04)
      assert.equal(name_of(client) .. "/", exchange(client, get("/?0")))
    end
    assert.is_true(support.clock() - start >= 0.2)
    start = support.clock()
    assert.same({ nil, "closed", "" }, { client:receive("*a") })
    local took = support.clock() - start
    assert.is_true(took >= 0.05 and took < 1, took)
  end)

  it("come to their end when the server stops; idle clients are closed", function()
    local it <close> = http.serve(naming)
    local idle <close> = http.connect(it)
    local busy <close> = http.connect(it)
    exchange(idle, get("/"))
    local greenlet = moonlet.spawn(exchange, busy, get("/?0.05"))
    moonlet.sleep(0.01)
    local stopper = moonlet.spawn(it.stop, it, 10)
    assert.is_nil((idle:receive("*a")))
    assert.equal(name_of(busy) .. "/", greenlet:get())
    assert.is_true(stopper:get())
    assert.is_nil((busy:receive("*a")))
  end)

  it("that are killed leave nothing behind", function()
    local victim
    local it <close> = http.serve(function(env)
      if env.PATH_INFO == "/kill" then
        victim = moonlet.getcurrent()
        moonlet.sleep(100)
      end
      return 200, nil, "alive"
    end)
    local client <close> = http.connect(it)
    assert.equal("alive", exchange(client, get("/")))
    assert(client:send(get("/kill")))
    support.eventually(function() return victim end)
    victim:kill()
    assert.same({ nil, "closed", "" }, { client:receive("*a") })
    assert.equal("alive", http.one(it, get("/")).body)
    assert.is_nil(next(it._handlers))
  end)

  it("whose client leaves before the answer leave nothing to the next one", function()
    local it <close> = http.serve(naming)
    for i = 1, 6 do
      local client = http.connect(it)
      assert(client:send(get("/?0.01")))
      support.eventually(function() return next(it._handlers) end)
      client:setoption("linger", { on = true, timeout = i % 2 * 10 })
      client:close()
    end
    support.eventually(function() return next(it._handlers) == nil end)
    for _, connection in ipairs(it._idle) do
      assert.is_false(connection.env)
    end
    local client <close> = http.connect(it)
    assert.equal(name_of(client) .. "/", exchange(client, get("/")))
    it:stop()
    assert.same({ nil, "closed", "" }, { client:receive("*a") })
  end)

  it("use few objects for many clients", function()
    local it <close> = http.serve(naming)
    for _ = 1, 50 do
      http.one(it, get("/", "Connection: close"))
    end
    support.eventually(function() return next(it._handlers) == nil end)
    assert.is_true(#it._idle <= 2, #it._idle)
    local clients = {}
    for i = 1, 150 do
      clients[i] = http.connect(it)
      exchange(clients[i], get("/"))
    end
    for _, client in ipairs(clients) do
      client:close()
    end
    support.eventually(function() return next(it._handlers) == nil end)
    assert.equal(100, #it._idle)
  end)

  it("with an environment that is the application's to keep", function()
    local kept = {}
    local it <close> = http.serve(function(env)
      kept[#kept + 1] = env
      return 200, nil, "x"
    end)
    local client <close> = http.connect(it)
    for i = 1, 3 do
      exchange(client, get("/" .. i, "Number: " .. i))
    end
    for i, env in ipairs(kept) do
      assert.equal("/" .. i, env.PATH_INFO)
      assert.equal(tostring(i), env.HTTP_NUMBER)
      assert.is_nil(env.input:read())
      local all = {}
      for name, value in pairs(env) do
        all[name] = value
      end
      assert.equal("", all.QUERY_STRING)
      assert.equal(env.input, all.input)
    end
  end)

  -- One request at a time, or some together: it asks for another with each that is served.
  for _, together in ipairs { 1, 50 } do
    it(("of one client that never stops (%d) leave the others their turn"):format(together),
       function()
      local MANY = 20000
      local client, other, count, served = nil, nil, 0, false
      local it <close> = http.serve(function(env)
        count = count + 1
        if env.PATH_INFO == "/other" then
          served = count
        elseif not served and count < MANY then
          assert(client:send(get("/")))
        end
        if count == together then
          assert(other:send(get("/other")))
        end
        return 204
      end)
      client, other = http.connect(it), http.connect(it)
      assert(client:send(get("/"):rep(together)))
      local reader = moonlet.spawn(function()
        while client:recv() do end
      end)
      assert.matches("^HTTP/1.1 204 ", other:receive())
      assert.is_true(served < MANY, served)
      reader:kill()
      client:close()
      other:close()
    end)
  end

  it("are never followed by HTTP/2 on the same connection", function()
    local it <close> = http.serve(naming)
    local client <close> = http.connect(it)
    assert.equal(name_of(client) .. "/", exchange(client, get("/")))
    assert(client:send("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"))
    assert.matches("^HTTP/1.1 400 ", http.receive(client))
  end)

  it("begin with what a method `handle` has left over of what it read", function()
    local Proxied = wsapi.WSAPIServer:extend("Proxied")
    local limits
    function Proxied:handle(sock)
      limits = { sock:gettimeout() }
      local host, port = sock:receive("*l"):match("^PROXY (%S+) (%d+)$")
      Proxied.super.handle(self, sock, { host, port })
    end
    local opts = { log = false, error_log = false, idle_timeout = 5 }
    local it <close> = servers.started(Proxied, servers.HERE, naming, opts)
    for _, rest in ipairs { "", "Ho" } do
      local client <close> = http.connect(it)
      assert(client:send("PROXY there 7\r\nGET /1 HTTP/1.1\r\n" .. rest))
      moonlet.sleep(0)
      assert.equal("there:7/1", exchange(client, ("Host: here\r\n\r\n"):sub(#rest + 1)))
      assert.equal("there:7/2", exchange(client, get("/2")))
    end
    local client <close> = http.connect(it)
    assert.equal("there:7/1", exchange(client, "PROXY there 7\r\n" .. get("/1")))
    assert.same({ -1, -1 }, limits)
  end)

  it("go by methods of the server's own, of an object or a subclass", function()
    local it <close> = http.serve(naming)
    assert.matches("^127.0.0.1:%d+/$", http.one(it, get("/")).body)
    function it:peer()
      return { "nobody", 1 }
    end
    assert.equal("nobody:1/", http.one(it, get("/")).body)
  end)
end)
