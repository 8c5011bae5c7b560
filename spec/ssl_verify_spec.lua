local certificates = require "support.certificates"
local ssl = require "moonlet.ssl"
local support = require "support"
local tls = require "support.tls"

local function read(path)
  local file <close> = assert(io.open(path))
  return file:read("a")
end

local function contains(text, part)
  assert.truthy(text:find(part, 1, true), ("%q is not in %q"):format(part, text))
end

describe("moonlet.ssl verifies certificates:", function()
  local folder

  setup(function()
    folder = certificates.folder()
    folder:root("ca")
    folder:root("stranger")
    folder:issue("server", { names = "DNS:localhost,DNS:*.example.org,IP:127.0.0.1,IP:::1" })
    folder:issue("old", { names = "DNS:localhost", expired = true })
    folder:issue("only-client", { names = "DNS:localhost", purpose = "clientAuth" })
    folder:issue("only-server", { purpose = "serverAuth" })
    folder:issue("client", { purpose = "clientAuth" })
    folder:issue("strange", { names = "DNS:localhost", by = "stranger" })
    folder:issue("between", { ca = true })
    folder:issue("leaf", { names = "DNS:localhost", by = "between" })
  end)

  teardown(function()
    folder:remove()
  end)

  -- Both ends' results of a handshake, and the ends.
  local function handshake(server, client, name)
    local server_conn, client_conn = tls.wrap(server, client, name)
    local of_server, of_client = tls.handshake(server_conn, client_conn)
    finally(function()
      tls.close(server_conn, client_conn)
    end)
    return of_server, of_client, server_conn, client_conn
  end

  local function refused(certificate, client, name)
    local of_server, of_client, server, conn =
      handshake(folder:params("server", certificate), client, name)
    assert.is_nil(of_client[1])
    assert.is_nil(of_server[1])
    assert.falsy((conn:getpeerverification()))
    tls.close(server, conn)
    return of_client[2], of_server[2]
  end

  local function accepted(certificate, client, name)
    local of_server, of_client, server, conn =
      handshake(folder:params("server", certificate), client, name)
    assert.truthy(of_client[1], of_client[2])
    assert.truthy(of_server[1], of_server[2])
    tls.close(server, conn)
  end

  it("the name", function()
    for _, name in ipairs { "localhost", "LOCALHOST", "localhost.", "a.example.org", "127.0.0.1",
                            "::1" } do
      accepted("server", folder:params("client"), name)
    end
    for _, name in ipairs { "elsewhere", "a.b.example.org", "example.org", "127.0.0.2" } do
      local message, alert = refused("server", folder:params("client"), name)
      contains(message, ("certificate verify failed: the certificate is not for '%s' but for " ..
                         "localhost, *.example.org, 127.0.0.1, ::1"):format(name))
      contains(alert, "the peer's alert: bad certificate")
    end
  end)

  it("the name also where there are no alternative names", function()
    contains(refused("between", folder:params("client"), "elsewhere"), "but for CN=between")
  end)

  it("the name when it is known, with verify = 'peer'", function()
    accepted("server", folder:params("client", nil, { verify = "peer" }))
    refused("server", folder:params("client", nil, { verify = "peer" }), "elsewhere")
  end)

  it("not without a name, unless told so", function()
    local of_server, of_client = handshake(folder:params("server", "server"),
                                           folder:params("client"))
    assert.is_nil(of_client[1])
    contains(of_client[2], "no name to verify")
    assert.same({ n = 2, nil, "closed" }, of_server)
  end)

  it("an unknown root", function()
    local message, alert = refused("strange", folder:params("client"), "localhost")
    contains(message, "unable to get local issuer certificate (certificate of CN=strange, " ..
                      "issued by CN=stranger, depth 0)")
    contains(alert, "unknown ca")
  end)

  it("by default against the system's store", function()
    contains(refused("server", { mode = "client" }, "localhost"), "CN=ca, depth 0")
    local run = support.run_script([[
      package.path = "spec/?.lua;spec/?/init.lua;" .. package.path
      local tls, ssl = require "support.tls", require "moonlet.ssl"
      tls.pair({ mode = "server", certificate = arg[1], key = arg[2] }, { mode = "client" },
               "localhost")
    ]], { args = { folder:file("server.pem"), folder:file("server.key") },
          env = { SSL_CERT_FILE = folder:file("ca.pem") } })
    assert.equal("", run.stderr)
  end)

  it("one that is expired", function()
    contains(refused("old", folder:params("client"), "localhost"),
             "certificate has expired (certificate of CN=old, issued by CN=ca, depth 0)")
  end)

  it("one that is signed by itself", function()
    contains(refused("stranger", folder:params("client"), "stranger"),
             "self-signed certificate (certificate of CN=stranger")
  end)

  it("one for another purpose", function()
    contains(refused("only-client", folder:params("client"), "localhost"),
             "unsuitable certificate purpose (certificate of CN=only-client")
    accepted("only-client", folder:params("client", nil, { verifyext = "lsec_ignore_purpose" }),
             "localhost")
  end)

  it("a chain, which may not be too long", function()
    local chain = folder:file("chain.pem")
    local file <close> = assert(io.open(chain, "w"))
    file:write(read(folder:file("leaf.pem")), read(folder:file("between.pem")))
    file:close()
    local params = { mode = "server", certificate = chain, key = folder:file("leaf.key") }
    local _, of_client, server, client = handshake(params, folder:params("client"),
                                                   "localhost")
    assert.same({ n = 1, true }, of_client)
    assert.equal(2, #client:getpeerchain())
    contains(tostring(client:getpeercertificate()), "CN=leaf")
    contains(tostring(client:getpeercertificate(2)), "CN=between")
    assert.is_nil(client:getpeercertificate(3))
    assert.is_nil(server:getpeercertificate())
    assert.same({}, server:getpeerchain())
    tls.close(server, client)
    _, of_client = handshake(params, folder:params("client", nil, { depth = 0 }), "localhost")
    contains(of_client[2], "chain too long")
  end)

  it("nothing with verify = 'none', but tells", function()
    local _, of_client, _, client = handshake(folder:params("server", "strange"),
      { mode = "client", verify = "none" }, "localhost")
    assert.same({ n = 1, true }, of_client)
    local good, message = client:getpeerverification()
    assert.is_false(good)
    contains(message, "unable to get local issuer certificate (certificate of CN=strange")
  end)

  it("and goes on with 'lsec_continue', telling all that is wrong", function()
    local _, of_client, _, client = handshake(folder:params("server", "old"),
      folder:params("client", nil, { verifyext = { "lsec_continue" } }), "elsewhere")
    assert.same({ n = 1, true }, of_client)
    local good, errors = client:getpeerverification()
    assert.is_false(good)
    table.sort(errors[1])
    assert.same({ { "certificate has expired", "hostname mismatch" } }, errors)
  end)

  it("by records of the DNS", function()
    local pipe <close> = assert(io.popen(("openssl x509 -in %s -noout -pubkey | openssl pkey " ..
      "-pubin -outform DER | openssl dgst -sha256 -binary"):format(folder:file("strange.pem"))))
    local digest = pipe:read("a")
    for _, data in ipairs { digest, ("x"):rep(32) } do
      local server, client = tls.wrap(folder:params("server", "strange"),
                                      { mode = "client", dane = true })
      assert.is_true(client:setdane("localhost"))
      assert.is_true(client:settlsa(3, 1, 1, data))
      assert.is_nil((client:settlsa(3, 1, 1, "too short")))
      local _, of_client = tls.handshake(server, client)
      if data == digest then
        assert.same({ n = 1, true }, of_client)
      else
        contains(of_client[2], "certificate verify failed")
      end
      tls.close(server, client)
    end
    assert.same({ nil, "invalid dane option (all)" },
                { ssl.newcontext { mode = "client", dane = { "all" } } })
    assert(ssl.newcontext { mode = "client", dane = { "no_ee_namechecks" } })
  end)

  describe("a server", function()
    local function mutual(certificate, more)
      local server = folder:params("server", "server", {
        cafile = folder:file("ca.pem"), verify = { "peer", "fail_if_no_peer_cert" } })
      for name, value in pairs(more or {}) do
        server[name] = value
      end
      return handshake(server, folder:params("client", certificate), "localhost")
    end

    it("asks the client for one", function()
      local of_server, _, server = mutual("client")
      assert.same({ n = 1, true }, of_server)
      contains(tostring(server:getpeercertificate()), "CN=client")
      contains(tostring(server:getpeerchain()[1]), "CN=client")
      assert.is_true(server:getpeerverification())
    end)

    it("refuses a client without one, which is told", function()
      local of_server, of_client, _, client = mutual(nil)
      assert.same({ n = 2, nil, "peer did not return a certificate" }, of_server)
      local message = of_client[2]
      if of_client[1] then -- with TLS 1.3 the client was done before
        message = select(2, client:receive())
      end
      contains(message, "certificate required")
    end)

    it("refuses a client with a bad one", function()
      local of_server, _, server, client = mutual("strange")
      contains(of_server[2], "unable to get local issuer certificate (certificate of CN=strange")
      tls.close(server, client)
      of_server = mutual("only-server")
      contains(of_server[2], "unsuitable certificate purpose (certificate of CN=only-server")
    end)

    it("takes a client without one if it may", function()
      local of_server = mutual(nil, { verify = "peer" })
      assert.same({ n = 1, true }, of_server)
    end)

    it("has to know whom to trust", function()
      local params = folder:params("server", "server", { verify = "peer" })
      local context, message = ssl.newcontext(params)
      assert.is_nil(context)
      contains(message, "cafile")
    end)
  end)

  describe("a certificate", function()
    local certificate, luasec

    setup(function()
      local pem = read(folder:file("server.pem"))
      certificate = assert(ssl.loadcertificate(pem))
      luasec = assert(require("ssl").loadcertificate(pem))
    end)

    it("tells what LuaSec tells", function()
      for _, name in ipairs { "subject", "issuer", "notbefore", "notafter", "serial", "pem",
                              "pubkey", "digest", "getsignaturename" } do
        assert.same(table.pack(luasec[name](luasec)), table.pack(certificate[name](certificate)))
      end
      assert.same(luasec:extensions()["2.5.29.17"], certificate:extensions()["2.5.29.17"])
      assert.equal(luasec:digest("sha256"), certificate:digest("sha256"))
      assert.same({ luasec:digest("none") }, { certificate:digest("none") })
      local now = os.time()
      for _, from in ipairs { 0, now, now + 100 * 86400 } do
        assert.equal(luasec:validat(from), certificate:validat(from))
      end
    end)

    it("tells its other extensions as text", function()
      local constraints = certificate:extensions()["2.5.29.19"]
      assert.same({ name = "X509v3 Basic Constraints", value = "CA:FALSE" }, constraints)
    end)

    it("tells its texts in UTF-8 if asked", function()
      assert.is_true(certificate:setencode("utf8"))
      assert.equal("server", certificate:subject()[1].value)
      assert.is_false(certificate:setencode("latin9"))
      assert.is_true(certificate:setencode("ai5"))
    end)

    it("tells who issued it", function()
      local root = ssl.loadcertificate(read(folder:file("ca.pem")))
      local other = ssl.loadcertificate(read(folder:file("stranger.pem")))
      local between = ssl.loadcertificate(read(folder:file("between.pem")))
      local leaf = ssl.loadcertificate(read(folder:file("leaf.pem")))
      assert.is_true(root:issued(certificate))
      assert.same({ false, "unable to get local issuer certificate" },
                  { other:issued(certificate) })
      assert.is_false((root:issued(leaf)))
      assert.is_true(root:issued(leaf, between))
    end)

    it("shows whose it is, and is loaded from nothing else", function()
      contains(tostring(certificate), "/CN=server")
      assert.same({ nil, "no start line" }, { ssl.loadcertificate("nothing") })
      assert.error_matches(function() certificate.subject(io.stdout) end, "bad argument #1")
    end)
  end)
end)
