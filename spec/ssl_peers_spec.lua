local certificates = require "support.certificates"
local https = require "moonlet.ssl.https"
local moonlet = require "moonlet"
local peer = require "support.peer"
local socket = require "moonlet.socket"
local ssl = require "moonlet.ssl"
local support = require "support"

local SIZE = 8 * 1024 * 1024

-- Talks to our server: sends a line and bytes, receives them back.
local LUASEC_CLIENT = [[
local socket, ssl = require "socket", require "ssl"
local port, folder, size = tonumber(arg[1]), arg[2], tonumber(arg[3])
local sock = assert(socket.connect("127.0.0.1", port))
local conn = assert(ssl.wrap(sock, { mode = "client", protocol = "any", verify = "peer",
  cafile = folder .. "/ca.pem", certificate = folder .. "/client.pem",
  key = folder .. "/client.key", alpn = { "echo" } }))
conn:sni("localhost")
assert(conn:dohandshake())
print("alpn", conn:getalpn())
assert(conn:send("line\r\n"))
print("line", (assert(conn:receive())))
local data = ("x"):rep(size)
assert(conn:send(data))
print("data", assert(conn:receive(size)) == data)
conn:close()
]]

-- Serves one client of ours the same way.
local LUASEC_SERVER = [[
local socket, ssl = require "socket", require "ssl"
local folder, size = arg[1], tonumber(arg[2])
local listener = assert(socket.bind("127.0.0.1", 0))
io.stdout:setvbuf "no"
print("port " .. select(2, listener:getsockname()))
local conn = assert(ssl.wrap(assert(listener:accept()), { mode = "server", protocol = "any",
  certificate = folder .. "/server.pem", key = folder .. "/server.key",
  cafile = folder .. "/ca.pem", verify = { "peer", "fail_if_no_peer_cert" },
  alpn = { "echo" } }))
assert(conn:dohandshake())
print("name", conn:getsniname())
print("client", conn:getpeercertificate():subject()[1].value)
assert(conn:send(assert(conn:receive()) .. "\n"))
local data = assert(conn:receive(size))
assert(conn:send(data))
print("end", conn:receive())
]]

describe("moonlet.ssl", function()
  local folder

  setup(function()
    folder = certificates.folder()
    folder:root("ca")
    folder:issue("server", { names = "DNS:localhost" })
    folder:issue("client", { purpose = "clientAuth" })
    folder:issue("other", { names = "DNS:elsewhere" })
  end)

  teardown(function()
    folder:remove()
  end)

  -- A server that has serve(conn) run for each client after its handshake; returns its port, and
  -- the list of messages of handshakes that failed.
  local function listen(serve, more, name)
    local context = assert(ssl.newcontext(folder:params("server", name or "server", more)))
    local listener = assert(socket.bind("127.0.0.1", 0))
    local failures = {}
    local greenlet = moonlet.spawn(function()
      for sock in function() return (listener:accept()) end do
        moonlet.spawn(function()
          local conn <close> = assert(ssl.wrap(sock, context))
          conn:settimeout(10)
          local ok, message = conn:dohandshake()
          if ok then
            serve(conn)
          else
            failures[#failures + 1] = message
          end
        end)
      end
    end)
    finally(function()
      listener:close()
      greenlet:join()
    end)
    local _, port = listener:getsockname()
    return port, failures
  end

  -- Answers any request of HTTP; what it was, goes to `requests`.
  local function respond(requests, body)
    return function(conn)
      local line = conn:receive()
      local length = 0
      for header in function() return conn:receive() end do
        length = tonumber(header:lower():match("^content%-length: (%d+)")) or length
        if header == "" then
          break
        end
      end
      requests[#requests + 1] = { line = line, body = length == 0 and "" or conn:receive(length) }
      conn:send(("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s"):format(#body, body))
    end
  end

  describe("with LuaSec", function()
    it("as the client", function()
      local client_name, last
      local port = listen(function(conn)
        client_name = conn:getpeercertificate():subject()[1].value
        assert(conn:send(conn:receive() .. "\n"))
        assert(conn:send(assert(conn:receive(SIZE))))
        last = table.pack(conn:receive())
      end, { cafile = folder:file("ca.pem"), verify = { "peer", "fail_if_no_peer_cert" },
             alpn = "echo" })
      local other <close> = peer.lua(LUASEC_CLIENT, port, folder.path, SIZE)
      local status, output = other:finish()
      assert.equal("alpn\techo\nline\tline\ndata\ttrue\nexit 0\n", output)
      assert.equal(0, status)
      assert.equal("client", client_name)
      assert.same({ n = 3, nil, "closed", "" }, last)
    end)

    it("as the server", function()
      local other <close> = peer.lua(LUASEC_SERVER, folder.path, SIZE)
      local port = tonumber(other:expect("port (%d+)"))
      local conn <close> = assert(ssl.connect("localhost", port,
        folder:params("client", "client", { alpn = { "other", "echo" } }), 10))
      assert.equal("echo", conn:getalpn())
      assert.equal(5, conn:send("line\n"))
      assert.equal("line", conn:receive())
      local data = ("y"):rep(SIZE)
      assert.equal(SIZE, conn:send(data))
      assert.truthy(conn:receive(SIZE) == data)
      conn:close()
      local _, output = other:finish()
      assert.truthy(output:find("name\tlocalhost\nclient\tclient\nend\tnil\tclosed", 1, true))
    end)
  end)

  describe("with openssl", function()
    it("s_client", function()
      local port = listen(function(conn)
        conn:send("you said " .. conn:receive() .. "\n")
      end)
      for _, version in ipairs { "tls1_2", "tls1_3" } do
        local other <close> = peer.start(("echo hello | openssl s_client -connect 127.0.0.1:%d " ..
          "-servername localhost -CAfile %s -verify_return_error -%s -quiet -ign_eof"):format(
          port, folder:file("ca.pem"), version))
        local status, output = other:finish()
        assert.equal(0, status, output)
        assert.truthy(output:find("you said hello", 1, true), output)
      end
    end)

    it("s_client that asks for another name, or renegotiates", function()
      local port, failures = listen(function(conn)
        conn:receive("*a")
      end)
      local other <close> = peer.start(("echo | openssl s_client -connect 127.0.0.1:%d " ..
        "-servername localhost -verify_hostname elsewhere -CAfile %s -verify_return_error"):format(
        port, folder:file("ca.pem")))
      assert.equal(1, (other:finish()))
      support.eventually(function() return #failures > 0 end)
      assert.same({ "the peer's alert: bad certificate" }, failures)
      local again <close> = peer.start(("(echo R; sleep 1) | openssl s_client -tls1_2 " ..
        "-connect 127.0.0.1:%d -CAfile %s"):format(port, folder:file("ca.pem")))
      local _, output = again:finish()
      assert.truthy(output:find("no renegotiation", 1, true), output)
    end)

    it("s_server", function()
      local probe = assert(socket.bind("127.0.0.1", 0))
      local _, port = probe:getsockname()
      probe:close()
      local other <close> = peer.start(("openssl s_server -accept 127.0.0.1:%d -cert %s -key %s " ..
        "-naccept 1 -rev"):format(port, folder:file("server.pem"), folder:file("server.key")))
      other:expect("ACCEPT")
      local conn <close> = assert(ssl.connect("localhost", port, folder:params("client"), 10))
      assert(conn:send("hello\n"))
      assert.equal("olleh", conn:receive())
      conn:close()
    end)
  end)

  describe("with curl", function()
    local function curl(port, options)
      local other <close> = peer.start(("curl -sS --noproxy '*' --cacert %s %s " ..
        "https://localhost:%d/path"):format(folder:file("ca.pem"), options or "", port))
      local status, output = other:finish()
      return output, status
    end

    it("as the client", function()
      local requests = {}
      local body = ("z"):rep(100000)
      local port = listen(respond(requests, body))
      for _, version in ipairs { "--tls-max 1.2", "--tlsv1.3 --data posted" } do
        assert.equal(body .. "exit 0\n", (curl(port, version)))
      end
      assert.same({ { line = "GET /path HTTP/1.1", body = "" },
                    { line = "POST /path HTTP/1.1", body = "posted" } }, requests)
    end)

    it("as a client that refuses the certificate", function()
      local port, failures = listen(respond({}, ""), {}, "other")
      local _, status = curl(port)
      assert.equal(60, status)
      assert.truthy(#failures <= 1)
    end)
  end)

  describe("https", function()
    it("requests", function()
      local requests = {}
      local port = listen(respond(requests, "hello"))
      local url = ("https://localhost:%d/path?q"):format(port)
      local chunks = {}
      local request = { url = url, cafile = folder:file("ca.pem"),
                        sink = require("ltn12").sink.table(chunks) }
      local ok, code, headers, status = https.request(request)
      assert.equal(1, ok, code)
      assert.equal(200, code)
      assert.equal("5", headers["content-length"])
      assert.equal("HTTP/1.1 200 OK", status)
      assert.equal("hello", table.concat(chunks))
      assert.is_nil(request.create)
      assert.same({ { line = "GET /path?q HTTP/1.1", body = "" } }, requests)
    end)

    it("verifies the server", function()
      local port, failures = listen(respond({}, "hello"))
      local ok, message = https.request(("https://localhost:%d/"):format(port))
      assert.is_nil(ok)
      assert.truthy(message:find("certificate verify failed", 1, true), message)
      support.eventually(function() return #failures > 0 end)
      assert.same({ "the peer's alert: unknown ca" }, failures)
      ok, message = https.request { url = ("https://127.0.0.1:%d/"):format(port),
                                    cafile = folder:file("ca.pem") }
      assert.is_nil(ok)
      assert.truthy(message:find("not for '127.0.0.1' but for localhost", 1, true), message)
    end)

    it("posts, and returns the body", function()
      local requests = {}
      local port = listen(respond(requests, "answer"))
      -- By a program that trusts our root as the system's.
      local code = "print(require [[moonlet.ssl.https]].request([[https://localhost:%d/]], " ..
        "[[a=b]]))"
      local other <close> = peer.start(("SSL_CERT_FILE=%s %s -e '%s'"):format(
        folder:file("ca.pem"), support.interpreter, code:format(port)))
      local status, output = other:finish()
      assert.equal(0, status, output)
      assert.truthy(output:find("^answer\t200\ttable: %S+\tHTTP/1.1 200 OK\n"), output)
      assert.same({ { line = "POST / HTTP/1.1", body = "a=b" } }, requests)
    end)

    it("lets others run meanwhile", function()
      local turns = 0
      local port = listen(function(conn)
        moonlet.sleep(0.02)
        respond({}, "hello")(conn)
      end)
      local counter = moonlet.spawn(function()
        while true do
          moonlet.sleep(0.001)
          turns = turns + 1
        end
      end)
      assert.equal(1, (https.request { url = ("https://localhost:%d/"):format(port),
                                       cafile = folder:file("ca.pem") }))
      counter:kill()
      assert.truthy(turns > 3)
    end)

    it("does not do what it cannot", function()
      assert.same({ nil, "proxy not supported" },
                  { https.request { url = "https://localhost/", proxy = "http://localhost/" } })
      assert.same({ nil, "create function not permitted" },
                  { https.request { url = "https://localhost/", create = print } })
      assert.same({ nil, "connection refused" }, { https.request "https://127.0.0.1:1/" })
    end)
  end)
end)
