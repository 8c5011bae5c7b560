local Event = require("moonlet.event").Event
local certificates = require "support.certificates"
local http = require "moonlet.http"
local moonlet = require "moonlet"
local programs = require "support.peer"
local socket = require "moonlet.socket"
local ssl = require "moonlet.ssl"
local support = require "support"
local web = require "support.web"

local function contains(text, part)
  assert.truthy(text:find(part, 1, true), ("%q is not in %q"):format(part, text))
end

describe("moonlet.http with TLS", function()
  local folder, server, client

  setup(function()
    folder = certificates.folder()
    folder:root("ca")
    folder:root("stranger")
    folder:issue("server", { names = "DNS:localhost,IP:127.0.0.1" })
    folder:issue("other", { names = "DNS:elsewhere" })
    folder:issue("client", { purpose = "clientAuth" })
  end)

  teardown(function()
    folder:remove()
  end)

  local function echo(peer, request)
    peer:reply(nil, nil, request.method .. " " .. request.target .. " " .. request.body)
  end

  -- Starts the server of a spec, and a client that trusts it.
  local function start(answer, certificate, more)
    client = http.Client { proxy = false, ssl = { cafile = folder:file("ca.pem") } }
    server = web.serve(answer or echo, {
      tls = folder:params("server", certificate or "server", more), backlog = 1000,
    })
    finally(function()
      client:close()
      server:stop()
    end)
  end

  local function get(path, options)
    options = options or {}
    options.url = server:url(path)
    local response, message, number = client:request(options)
    return response, message, number
  end

  it("verifies the server's certificate, and says what is wrong with it", function()
    start()
    local response, message = client:request { url = server:url(), ssl = {} }
    assert.is_nil(response)
    contains(message, "certificate verify failed: unable to get local issuer certificate")
    client:close()
    server:stop()
    start(nil, "stranger")
    response, message = get()
    assert.is_nil(response)
    contains(message, "self-signed certificate")
    client:close()
    server:stop()
    start(nil, "other")
    response, message = get()
    assert.is_nil(response)
    contains(message, "the certificate is not for '127.0.0.1' but for elsewhere")
    assert.equal(0, #server.requests)
  end)

  it("accepts what it is told to", function()
    start()
    assert.equal("GET /x ", get("/x"):body())
    assert.equal("GET / ", client:request("https://localhost:" .. server.port):body())
    assert.equal("GET / ", get("/", { ssl = { verify = "none" } }):body())
    local context = assert(ssl.newcontext { mode = "client", cafile = folder:file("ca.pem") })
    assert.equal("GET / ", get("/", { ssl = context }):body())
    local response, message = get("/", { ssl = { cafile = "/nowhere" } })
    assert.is_nil(response)
    contains(message, "cafile '/nowhere'")
    client:close()
    server:stop()
    start(nil, "stranger")
    assert.equal("GET / ", get("/", { ssl = { cafile = folder:file("stranger.pem"),
                                              servername = "stranger" } }):body())
  end)

  it("shows a certificate of its own", function()
    start(nil, "server", { cafile = folder:file("ca.pem"), verify = { "peer",
                                                                     "fail_if_no_peer_cert" } })
    local params = folder:params("client", "client")
    assert.equal("GET / ", get("/", { ssl = params }):body())
    assert.is_nil((get()))
  end)

  it("gets a file from the server that comes with OpenSSL", function()
    local port = web.free_port()
    local openssl <close> = programs.start(([[cd '%s' && exec openssl s_server -WWW \
      -accept 127.0.0.1:%d -cert server.pem -key server.key -naccept 2]]):format(folder.path, port))
    openssl:expect("ACCEPT")
    client = http.Client { proxy = false, ssl = { cafile = folder:file("ca.pem") } }
    local file <close> = assert(io.open(folder:file("server.pem")))
    local text = file:read("a")
    for _ = 1, 2 do
      local response = assert(client:request("https://localhost:" .. port .. "/server.pem"))
      assert.equal("1.0", response.version)
      assert.equal(text, response:body())
    end
  end)

  it("uses connections again, by their parameters", function()
    start()
    local cafile = folder:file("ca.pem")
    for _ = 1, 3 do
      get():body()
      get("/", { ssl = { cafile = cafile } }):body()
    end
    assert.equal(1, server.count)
    get("/", { ssl = { cafile = cafile, verify = "none" } }):body()
    assert.equal(2, server.count)
    get("/", { ssl = { cafile = cafile, verify = { "none" } } }):body()
    get("/", { ssl = { verify = { "none" }, cafile = cafile } }):body()
    assert.equal(3, server.count)
    client:request("https://localhost:" .. server.port):body()
    assert.equal(4, server.count)
  end)

  it("sends and receives large bodies", function()
    start()
    local large = ("0123456789"):rep(300000)
    assert.is_true(get("/", { body = large }):body() == "POST / " .. large)
    local count = 0
    local response = get("/", { body = function()
      count = count + 1
      return count <= 30 and large:sub(1, 100000) or nil
    end })
    assert.is_true(response:body() == "POST / " .. large)
    assert.equal(1, server.count)
  end)

  it("streams both ways at once", function()
    client = http.Client { proxy = false, ssl = { cafile = folder:file("ca.pem") } }
    server = web.start(function(peer)
      peer:head()
      peer:send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
      for piece in peer.piece, peer do
        peer:send(("%x\r\n%s\r\n"):format(#piece, piece))
      end
      peer:send("0\r\n\r\n")
    end, { tls = folder:params("server", "server") })
    finally(function()
      client:close()
      server:stop()
    end)
    local large = ("0123456789"):rep(300000)
    assert.is_true(get("/", { body = large }):body() == large)
  end)

  it("takes a body for whole only if TLS says that it is", function()
    start(function(peer, request)
      peer:send("HTTP/1.1 200 OK\r\n\r\nbody")
      if request.target == "/cut" then
        peer.stream:receive("*a")
      end
      return true
    end)
    assert.equal("body", get("/whole"):body())
    -- between the two, who ends the connection
    local enough = Event()
    local between <close> = web.start(function(peer)
      local up <close> = assert(socket.create_connection { "127.0.0.1", server.port })
      local there <close> = web.copy(peer.stream, up)
      local back <close> = web.copy(up, peer.stream)
      enough:wait()
      return there, back
    end)
    local response = assert(client:request("https://127.0.0.1:" .. between.port .. "/cut"))
    assert.equal("body", response:read(4))
    enough:set()
    assert.same({ n = 3, nil, "closed", "" }, table.pack(response:body()))
  end)

  it("is bounded in the handshake, and can be killed there", function()
    client = http.Client { proxy = false }
    server = web.start(function(peer)
      peer.stream:receive("*a")
    end)
    finally(function()
      client:close()
      server:stop()
    end)
    local address = server:url():gsub("http", "https")
    for _, name in ipairs { "timeout", "connect_timeout" } do
      local response, message = client:request { url = address, [name] = 0.02 }
      assert.is_nil(response)
      assert.equal("timeout", message)
    end
    local g = moonlet.spawn(client.request, client, address)
    support.eventually(function()
      return server.count == 3
    end)
    support.turns()
    g:kill()
    support.eventually(function()
      return server.open == 0
    end)
  end)

  it("says so where the server speaks none", function()
    client = http.Client { proxy = false }
    server = web.start(function(peer)
      peer:send("HTTP/1.1 400 Bad Request\r\n\r\n")
    end)
    finally(function()
      client:close()
      server:stop()
    end)
    local response, message = client:request((server:url():gsub("http", "https")))
    assert.is_nil(response)
    assert.equal("string", type(message))
  end)

  it("is not left by a redirection, but may be come to by one", function()
    local plain <close> = web.serve(function(peer)
      peer:reply("302 Found", "Location: " .. server:url("/end") .. "\r\n")
    end)
    start(function(peer, request)
      if request.target == "/out" then
        peer:reply("302 Found", "Location: " .. plain:url() .. "\r\n")
      else
        echo(peer, request)
      end
    end)
    assert.equal("GET /end ", client:request(plain:url()):body())
    local response, message = get("/out")
    assert.is_nil(response)
    assert.equal("redirected from https to http", message)
    assert.equal(1, #plain.requests)
  end)

  it("keeps secure cookies", function()
    start(function(peer, request)
      peer:reply(nil, "Set-Cookie: a=b; Secure\r\n", request.headers.cookie)
    end)
    client = http.Client { proxy = false, cookies = true, ssl = client.defaults.ssl }
    assert.equal("", get():body())
    assert.equal("a=b", get():body())
  end)

  it("serves 50 greenlets at once", function()
    start()
    local list = {}
    for i = 1, 50 do
      list[i] = moonlet.spawn(function()
        return get("/" .. i):body()
      end)
    end
    moonlet.joinall(list, nil, true)
    for i, g in ipairs(list) do
      assert.equal("GET /" .. i .. " ", g.value)
    end
  end)
end)
