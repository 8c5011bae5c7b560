-- The server's half for HTTP/2, with a client of ours.

local event = require "moonlet.event"
local h2 = require "support.h2"
local http = require "support.http"
local moonlet = require "moonlet"
local servers = require "support.servers"
local support = require "support"

-- Specs of one server each: `with(app, opts, f)` calls f(client, server, log, errors).
local function with(app, opts, f)
  local log, errors = {}, {}
  local full = {
    log = function(line) table.insert(log, line) end,
    error_log = function(line) table.insert(errors, line) end,
  }
  for name, value in pairs(opts) do
    full[name] = value
  end
  local server <close> = http.serve(app, full)
  local client <close> = h2.client(server)
  f(client, server, log, errors)
end

local function counting(count)
  local self = { entered = 0 }
  local all = event.Event()
  function self.app()
    self.entered = self.entered + 1
    if self.entered == count then
      all:set()
    end
    all:wait()
    return 200, nil, "through"
  end
  function self.open()
    all:set()
  end
  return self
end

describe("moonlet.wsapi with HTTP/2", function()
  describe("has requests that", function()
    it("are like those of HTTP/1", function()
      local app, calls = http.recorder()
      with(app, {}, function(client, server)
        local response = client:ask("POST /a%20b?c=d", { "X-One: 1", "Cookie: a=1", "Cookie: b=2",
                                                         "Content-Type: text/plain" }, "body")
        assert.equal(200, response.status)
        assert.equal("ok", response.body)
        assert.equal("text/plain", response.fields["content-type"])
        assert.is_not_nil(response.fields.date)
        assert.equal("2", response.fields["content-length"])
        assert.equal("NO_ERROR", response.code)
        local env = calls[1]
        assert.equal("POST", env.REQUEST_METHOD)
        assert.equal("/a b", env.PATH_INFO)
        assert.equal("c=d", env.QUERY_STRING)
        assert.equal("HTTP/2.0", env.SERVER_PROTOCOL)
        assert.equal("here", env.HTTP_HOST)
        assert.equal("1", env.HTTP_X_ONE)
        assert.equal("a=1; b=2", env.HTTP_COOKIE)
        assert.equal("text/plain", env.CONTENT_TYPE)
        assert.equal("127.0.0.1", env.REMOTE_ADDR)
        assert.equal(tostring(server.address[2]), env.SERVER_PORT)
        assert.equal("http", env["wsapi.url_scheme"])
        assert.equal("body", env.body)
      end)
    end)

    it("come on the port of HTTP/1, however the preface is cut", function()
      local app = http.recorder()
      with(app, {}, function(_, server)
        local client <close> = h2.client(server)
        local text = client.session:pull()
        for i = 1, #text do
          assert(client.sock:send(text:sub(i, i)))
          support.turns(1)
        end
        assert.equal("ok", client:ask("GET /").body)
        for _, cut in ipairs { 1, 2, 10 } do
          local other = servers.connect(server)
          local request = http.post("/", "abc", "Connection: close")
          assert(other:send(request:sub(1, cut)))
          support.turns(3)
          assert(other:send(request:sub(cut + 1)))
          assert.matches("^HTTP/1.1 200 OK", (servers.read_all(other)))
        end
      end)
    end)

    it("are refused where they are not wanted", function()
      with(http.recorder(), { http2 = false }, function(client)
        client:flush()
        assert.matches("^HTTP/1.1 400", (client.sock:receive("*a")))
      end)
    end)

    it("are answered at the same time", function()
      local gate = counting(100)
      with(gate.app, {}, function(client)
        client:wait("settings")
        local ids = {}
        for i = 1, 100 do
          ids[i] = client:send("GET /" .. i)
        end
        for _, id in ipairs(ids) do
          assert.equal("through", client:receive(id).body)
        end
      end)
    end)

    it("are too many for one client, beyond a limit", function()
      local gate = counting(4)
      with(gate.app, { max_streams = 3 }, function(client)
        client:wait("settings")
        assert.equal(3, client.session:allowed())
        for i = 1, 4 do
          client:send("GET /" .. i)
        end
        support.eventually(function() return gate.entered == 3 end)
        support.turns(10)
        assert.equal(3, gate.entered)
        gate.open()
      end)
    end)

    it("count until the application is done with them, though they are reset", function()
      local gate = counting(5)
      with(gate.app, { max_streams = 2 }, function(client)
        client:wait("settings")
        for i = 1, 4 do
          client.session:reset(client:send("GET /" .. i))
          client:flush()
        end
        assert.equal("REFUSED_STREAM", client:ask("GET /5").code)
        assert.equal(4, gate.entered)
        gate.open()
        support.turns(5)
        assert.equal("through", client:ask("GET /6").body)
      end)
    end)

    it("have bodies with trailers", function()
      local seen
      with(function(env)
        local body = env.input:read("a")
        seen = env.input:trailers()
        return 200, nil, body
      end, {}, function(client)
        local id = client:send("POST /", nil, false)
        client.session:data(id, "body", true, "X-Sum: 1\r\n")
        assert.equal("body", client:receive(id).body)
        assert.equal("1", seen["x-sum"])
      end)
    end)

    it("are told to continue, once the body is asked for", function()
      local gate = event.Event()
      with(function(env)
        gate:wait()
        return 200, nil, env.input:read()
      end, {}, function(client)
        local id = client:send("POST /", { "Expect: 100-continue" }, false)
        support.turns(5)
        assert.equal(0, #client.events)
        gate:set()
        assert.equal(100, client:wait("informational", id).status)
        client.session:data(id, "body", true)
        assert.equal("body", client:receive(id).body)
      end)
    end)
  end)

  describe("has bodies of requests that", function()
    it("are read in any way", function()
      with(function(env)
        local parts = { env.input:read(3), env.input:read("l"), env.input:read("L") }
        for line in env.input:lines() do
          parts[#parts + 1] = line
        end
        return 200, nil, table.concat(parts, "|")
      end, {}, function(client)
        assert.equal("one| two|three\n|four|five", client:ask("POST /", nil,
                                                            "one two\nthree\nfour\nfive").body)
      end)
    end)

    it("are large", function()
      local size = 5000000
      with(function(env)
        local count = 0
        for piece in env.input:lines(50000) do
          count = count + #piece
        end
        return 200, nil, tostring(count)
      end, {}, function(client)
        local response = client:ask("POST /", nil, ("x"):rep(size))
        assert.equal(tostring(size), response.body)
      end)
    end)

    it("wait for the application, and stop no other request", function()
      local gate = event.Event()
      with(function(env)
        if env.PATH_INFO == "/slow" then
          gate:wait()
        end
        return 200, nil, tostring(#env.input:read())
      end, { stream_window = 100000 }, function(client)
        client:wait("settings")
        local slow = client:send("POST /slow", nil, ("x"):rep(3000000))
        assert.equal("9", client:ask("POST /quick", nil, "unhurried").body)
        support.turns(10)
        assert.equal(2900000, client.session:left(slow))
        gate:set()
        assert.equal("3000000", client:receive(slow).body)
      end)
    end)

    it("need not be read: so much of the rest is let come", function()
      with(function() return 200, nil, "enough" end, { max_discard = 100000 }, function(client)
        local response = client:ask("POST /", nil, ("x"):rep(90000))
        assert.equal("enough", response.body)
        assert.equal("NO_ERROR", response.code)
        local id = client:send("POST /", nil, ("x"):rep(10000000))
        response = client:receive(id)
        assert.equal("enough", response.body)
        assert.equal("NO_ERROR", response.code)
        assert.equal("enough", client:ask("GET /").body)
      end)
    end)

    it("cannot be read once the request is over", function()
      local kept
      with(function(env)
        kept = env.input
        return 200, nil, "x"
      end, {}, function(client)
        client:ask("POST /", nil, "body")
        assert.matches("the request is over", support.error_of(kept.read, kept))
      end)
    end)
  end)

  describe("has responses that", function()
    local function answering(...)
      local results = table.pack(...)
      return function()
        return table.unpack(results, 1, results.n)
      end
    end

    it("are lists, nothing, or long", function()
      local long = ("0123456789"):rep(100000)
      for _, case in ipairs { { { "a", "b", 1 }, "ab1" }, { nil, "" }, { "", "" },
                              { long, long } } do
        with(answering(200, { ["X-List"] = { 1, "2" } }, case[1]), {}, function(client)
          local response = client:ask("GET /")
          assert.equal(case[2], response.body)
          assert.equal("1, 2", response.fields["x-list"])
          assert.equal(tostring(#case[2]), response.fields["content-length"])
          assert.equal("NO_ERROR", response.code)
        end)
      end
    end)

    it("have no body for HEAD, 204 and 304", function()
      with(answering(200, nil, "body"), {}, function(client)
        local response = client:ask("HEAD /")
        assert.equal("", response.body)
        assert.equal("4", response.fields["content-length"])
      end)
      for _, status in ipairs { 204, 304 } do
        with(answering(status), {}, function(client)
          local response = client:ask("GET /")
          assert.equal(status, response.status)
          assert.equal("", response.body)
        end)
      end
    end)

    it("come piece by piece, with trailers", function()
      local gate = event.Event()
      local step = 0
      with(function()
        return 200, nil, function()
          step = step + 1
          if step == 1 then
            return "first "
          elseif step == 2 then
            return ""
          elseif step == 3 then
            gate:wait()
            return 2
          end
          return nil, { ["X-Sum"] = "9" }
        end
      end, {}, function(client)
        local id = client:send("GET /")
        assert.equal("first ", client:wait("data", id).data)
        gate:set()
        assert.equal("2", client:wait("data", id).data)
        assert.equal("9", client:wait("trailers", id).fields["x-sum"])
        assert.equal("NO_ERROR", client:wait("close", id).code)
      end)
    end)

    it("wait for the client that does not read", function()
      local count, closed = 0, false
      local body = setmetatable({ close = function() closed = true end }, { __call = function()
        count = count + 1
        return ("x"):rep(10000)
      end })
      with(answering(200, nil, body), {}, function(client)
        local id = client:send("GET /")
        client:wait("response", id)
        client.session:ping()
        client:wait("pong")
        support.turns(10)
        assert.is_true(count >= 26 and count < 30, count)
        local seen = count
        for _ = 1, 20 do
          client.session:consume(id, #client:wait("data", id).data)
        end
        client:flush()
        support.eventually(function() return count > seen end)
        client.session:reset(id)
        client:flush()
        support.eventually(function() return closed end)
      end)
    end)

    it("leave out fields of a connection", function()
      with(answering(200, { Connection = "close", ["Keep-Alive"] = "x", ["X-A"] = "b" }, "x"), {},
           function(client)
        local response = client:ask("GET /")
        assert.is_nil(response.fields.connection)
        assert.is_nil(response.fields["keep-alive"])
        assert.equal("b", response.fields["x-a"])
        assert.equal("x", client:ask("GET /").body)
      end)
    end)

    it("are errors, if they cannot be", function()
      for _, case in ipairs { { "oops" }, { 101 }, { 200, { ["Bad Name"] = "x" } }, { 200, nil, 5 },
                              { 200, nil, { {} } }, { 200, { ["Content-Length"] = 3 }, "ab" },
                              { 204, nil, http.iterator("x") } } do
        with(answering(table.unpack(case, 1, 3)), {}, function(client, _, _, errors)
          assert.equal(500, client:ask("GET /").status)
          assert.equal(1, #errors)
        end)
      end
    end)

    it("are errors, if the application fails, with no details", function()
      with(function() error("secret") end, {}, function(client, _, log, errors)
        local response = client:ask("GET /")
        assert.equal(500, response.status)
        assert.equal("Internal Server Error", response.body)
        assert.matches("secret\nstack traceback", errors[1])
        assert.matches("Host: here", errors[1])
        assert.matches('"GET / HTTP/2.0" 500 21 ', log[1])
      end)
    end)

    it("are cut, if it fails after the beginning", function()
      local function app(env)
        local i = 0
        return 200, { ["Content-Length"] = env.PATH_INFO ~= "/error" and 3 or nil }, function()
          i = i + 1
          if i == 1 then
            return "ab"
          elseif env.PATH_INFO == "/long" then
            return "cd"
          elseif env.PATH_INFO == "/error" then
            error("oops")
          end
        end
      end
      with(app, {}, function(client, _, log, errors)
        for i, path in ipairs { "/long", "/short", "/error" } do
          local response = client:ask("GET " .. path)
          assert.equal("ab", response.body)
          assert.equal("INTERNAL_ERROR", response.code)
          assert.equal(i, #errors)
          assert.matches(" 200 2 ", log[i])
        end
      end)
    end)

    it("are files", function()
      local folder = os.tmpname()
      os.remove(folder)
      assert(os.execute("mkdir " .. folder))
      local file <close> = assert(io.open(folder .. "/file.txt", "w"))
      file:write(("line\n"):rep(50000))
      file:close()
      local static = require("moonlet.wsapi").static
      with(static(folder), {}, function(client)
        assert.equal(("line\n"):rep(50000), client:ask("GET /file.txt").body)
        assert.equal("line", client:ask("GET /file.txt", { "Range: bytes=5-8" }).body)
      end)
      assert(os.execute("rm -r " .. folder))
    end)
  end)

  describe("has limits:", function()
    local function refused(status, opts, ...)
      local request = table.pack(...)
      local calls = 0
      with(function(env)
        calls = calls + 1
        return 200, nil, env.input:read()
      end, opts, function(client, _, log)
        assert.equal(status, client:ask(table.unpack(request, 1, request.n)).status)
        assert.matches(" " .. status .. " ", log[1])
        assert.equal(200, client:ask("GET /").status)
      end)
      return calls
    end

    it("too long a path, a field, a head", function()
      assert.equal(1, refused(414, {}, "GET /" .. ("x"):rep(10000)))
      assert.equal(1, refused(431, {}, "GET /", { "X: " .. ("x"):rep(10000) }))
      local long, many = ("X: " .. ("x"):rep(7000) .. "\r\n"):rep(5), ("X: x\r\n"):rep(20)
      assert.equal(1, refused(431, { max_header_bytes = 30000 }, "GET /", { long .. "Y: z" }))
      assert.equal(1, refused(431, { max_headers = 10 }, "GET /", { many .. "Y: z" }))
    end)

    it("too large a body, whether it says so or not", function()
      assert.equal(1, refused(413, { max_body = 10 }, "POST /", { "Content-Length: 20" },
                              ("x"):rep(20)))
      assert.equal(2, refused(413, { max_body = 10 }, "POST /", nil, ("x"):rep(20)))
    end)

    it("a body that comes too slowly", function()
      assert.equal(2, refused(408, { body_timeout = 0.05 }, "POST /", nil, false))
    end)

    it("a target or host that cannot be one", function()
      assert.equal(1, refused(400, {}, "GET /a#b"))
    end)

    it("a client that sends nothing", function()
      with(http.recorder(), { idle_timeout = 0.05 }, function(client)
        assert.equal("ok", client:ask("GET /").body)
        assert.equal("NO_ERROR", client:wait("goaway").code)
        assert.is_false(client:read())
      end)
    end)

    it("a client that does not accept the settings", function()
      with(http.recorder(), { header_timeout = 0.05 }, function(client)
        assert(client.sock:send((client.session:pull())))
        local data = client.sock:receive("*a")
        assert(client.session:feed(data))
        assert.matches("\0\0\0\4$", data) -- SETTINGS_TIMEOUT
      end)
    end)

    it("a head that is not complete", function()
      with(http.recorder(), { header_timeout = 0.05 }, function(client)
        client:wait("acknowledged")
        assert(client.sock:send("\0\0\1\1\0\0\0\0\1\x82"))
        assert.equal("ENHANCE_YOUR_CALM", client:wait("goaway").code)
        assert.is_false(client:read())
      end)
    end)

    it("a client that takes nothing of a response", function()
      local function app()
        return 200, nil, ("x"):rep(1000000)
      end
      with(app, { idle_timeout = 0.1 }, function(client, _, log)
        local id = client:send("GET /")
        assert.equal("CANCEL", client:wait("close", id).code)
        support.eventually(function() return log[1] end)
        assert.matches(" 200 262144 ", log[1])
      end)
    end)

    it("what is no HTTP/2 behind the preface", function()
      with(http.recorder(), {}, function(client, _, _, errors)
        local preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
        assert(client.sock:send(preface .. "GET / HTTP/1.1\r\nHost: a\r\n\r\n"))
        client.sock:receive("*a")
        assert.matches("127.0.0.1: bad request: HTTP/2: ", errors[1])
      end)
    end)

    it("a flood of resets", function()
      local calls = 0
      with(function() calls = calls + 1 end, {}, function(client, _, _, errors)
        client:wait("settings")
        for _ = 1, 3000 do
          local id = client.session:request("GET / HTTP/1.1\r\nHost: here\r\n\r\n")
          if not id then
            break
          end
          local text = client.session:pull()
          client.session:reset(id)
          if not client.sock:send((text or "") .. (client.session:pull() or "")) then
            break
          end
        end
        client.sock:receive("*a")
        assert.is_true(calls < 1500, calls)
        assert.matches("bad request: HTTP/2: INTERNAL_ERROR", errors[#errors])
      end)
    end)
  end)

  describe("has ends:", function()
    -- An application that notes how it ends.
    local function noting()
      local self = { entered = 0, closed = 0 }
      function self.app(env)
        self.entered = self.entered + 1
        if env.PATH_INFO == "/read" then
          self.ok, self.err = pcall(env.input.read, env.input)
          self.closed = self.closed + 1
          return 200, nil, "late"
        end
        local body = { close = function() self.closed = self.closed + 1 end }
        return 200, nil, setmetatable(body, { __call = function()
          moonlet.sleep(0.001)
          return "x"
        end })
      end
      return self
    end

    it("a stream that the client resets", function()
      local noted = noting()
      with(noted.app, {}, function(client, _, log)
        local first, second = client:send("POST /read", nil, false), client:send("GET /")
        client:wait("data", second)
        client.session:reset(first)
        client.session:reset(second)
        client:flush()
        support.eventually(function() return noted.closed == 2 end)
        assert.is_false(noted.ok)
        assert.matches("unexpected end of file", tostring(noted.err))
        support.eventually(function() return #log == 2 end)
        table.sort(log)
        assert.matches('"GET / HTTP/2.0" 200 %d+ ', log[1])
        assert.matches('"POST /read HTTP/2.0" 499 0 ', log[2])
        assert.equal("NO_ERROR", client:ask("POST /read", nil, "body").code)
      end)
    end)

    it("a client that is gone", function()
      local noted = noting()
      with(noted.app, {}, function(client, _, log)
        client:send("POST /read", nil, false)
        for _ = 1, 10 do
          client:send("GET /")
        end
        support.eventually(function() return noted.entered == 11 end)
        client:close()
        support.eventually(function() return noted.closed == 11 and #log == 11 end)
      end)
    end)

    it("a server that stops lets requests come to their ends, and takes no more", function()
      local gate = event.Event()
      with(function()
        gate:wait()
        return 200, nil, ("x"):rep(500000)
      end, {}, function(client, server)
        local id = client:send("GET /")
        client:wait("acknowledged")
        local stopper = moonlet.spawn(server.stop, server, 5)
        assert.equal("NO_ERROR", client:wait("goaway").code)
        local late = client:send("GET /")
        assert.equal("REFUSED_STREAM", client:wait("close", late).code)
        gate:set()
        assert.equal(500000, #client:receive(id).body)
        assert.is_false(client:read())
        client:close()
        assert.is_true(stopper:get())
      end)
    end)

    it("a server that stops closes what is idle at once", function()
      with(http.recorder(), {}, function(client, server)
        client:ask("GET /")
        assert.is_true(server:stop(1))
        assert.equal("NO_ERROR", client:wait("goaway").code)
        assert.is_false(client:read())
      end)
    end)

    it("a server that stops kills what takes too long", function()
      local closed = 0
      with(function()
        local _ <close> = setmetatable({}, { __close = function() closed = closed + 1 end })
        moonlet.sleep(100)
      end, {}, function(client, server)
        for _ = 1, 5 do
          client:send("GET /")
        end
        client:wait("acknowledged")
        assert.is_false(server:stop(0.01))
        assert.equal(5, closed)
      end)
    end)

    it("an application that is killed, of one stream only", function()
      local greenlets = {}
      with(function(env)
        if env.PATH_INFO == "/" then
          return 200, nil, "ok"
        end
        table.insert(greenlets, moonlet.getcurrent())
        moonlet.sleep(100)
      end, {}, function(client)
        local id = client:send("GET /wait")
        assert.equal("ok", client:ask("GET /").body)
        greenlets[1]:kill()
        assert.equal("INTERNAL_ERROR", client:wait("close", id).code)
        assert.equal("ok", client:ask("GET /").body)
      end)
    end)
  end)

  it("lets clients do as they like, in any order", function()
    local function app(env)
      if env.PATH_INFO == "/skip" then
        return 200, nil, http.iterator("a", "b", ("c"):rep(1000))
      elseif env.PATH_INFO == "/fail" then
        error("oops")
      end
      local count = #(env.input:read() or "")
      return 200, nil, ("x"):rep(count)
    end
    local seed = 20261126
    local function random(n)
      seed = (seed * 1103515245 + 12345) % 2147483648
      return (seed >> 16) % n + 1
    end
    local paths, ended = { "/", "/skip", "/fail" }, 0
    with(app, { max_streams = 10, max_discard = 1000, linger_timeout = 0.05 }, function(_, server)
      local function behave()
        local client <close> = h2.client(server)
        local open, unfinished = {}, {}
        for _ = 1, 40 do
          local action = random(6)
          if action <= 2 then
            local body = random(3) > 1 and ("y"):rep(random(200000))
            local id = client:send("POST " .. paths[random(3)], nil, body)
            table.insert(open, id)
            table.insert(unfinished, not body and id or nil)
          elseif action == 3 and #open > 0 then
            client.session:reset(table.remove(open, random(#open)))
          elseif action == 4 and #unfinished > 0 then
            client.session:data(table.remove(unfinished), ("z"):rep(random(1000)), random(2) == 1)
          elseif action == 5 then
            client.session:ping()
            assert(client:wait("pong"))
          else
            moonlet.sleep(0)
          end
          client:flush()
        end
        ended = ended + 1
      end
      local greenlets = {}
      for i = 1, 20 do
        greenlets[i] = moonlet.spawn(behave)
      end
      moonlet.joinall(greenlets, nil, true)
      assert.equal(20, ended)
      local client <close> = h2.client(server)
      assert.equal("body", #client:ask("POST /", nil, "body").body == 4 and "body")
    end)
  end)

  it("refuses bad options", function()
    local wsapi = require "moonlet.wsapi"
    for name, value in pairs { max_streams = 0, stream_window = "x" } do
      assert.matches(name, support.error_of(wsapi.WSAPIServer, 0, print, { [name] = value }))
    end
  end)
end)
