local moonlet = require "moonlet"
local certificates = require "support.certificates"
local socket = require "moonlet.socket"
local ssl = require "moonlet.ssl"
local support = require "support"
local tls = require "support.tls"

describe("moonlet.ssl", function()
  local folder

  setup(function()
    folder = certificates.folder()
    folder:root("ca")
    for _, name in ipairs { "server", "one", "two" } do
      folder:issue(name, { names = "DNS:" .. name })
    end
    folder:issue("locked", { names = "DNS:locked", password = "sesame" })
  end)

  teardown(function()
    folder:remove()
  end)

  local function context(mode, name, more)
    return assert(ssl.newcontext(folder:params(mode, name, more)))
  end

  -- Ends that are closed after the spec.
  local function wrap(server, client, name)
    local server_conn, client_conn = tls.wrap(server, client, name)
    finally(function()
      tls.close(server_conn, client_conn)
    end)
    return server_conn, client_conn
  end

  local function pair(server, client, name)
    local server_conn, client_conn = wrap(server, client, name)
    local of_server, of_client = tls.handshake(server_conn, client_conn)
    assert(table.unpack(of_client))
    assert(table.unpack(of_server))
    return server_conn, client_conn
  end

  local function common_name(conn)
    return conn:getpeercertificate():subject()[1].value
  end

  it("says what it has", function()
    assert.equal("1.2.0", ssl._VERSION)
    assert.is_true(ssl.config.protocols.tlsv1_3)
    assert.is_true(ssl.config.options.no_ticket)
    assert.is_true(ssl.config.curves["P-256"])
    assert.is_true(ssl.config.algorithms.ec)
    assert.is_true(ssl.config.capabilities.alpn)
    for name, list in pairs(require("ssl").config) do
      for item in pairs(list) do
        if not item:find("_mask$") then
          assert.is_true(ssl.config[name][item], name .. "." .. item)
        end
      end
    end
  end)

  describe("newcontext", function()
    local function fails(params, message)
      local made, why = ssl.newcontext(params)
      assert.is_nil(made)
      assert.equal(message, why)
    end

    it("names the field that is wrong", function()
      fails({}, "invalid mode (nil)")
      fails({ mode = "both" }, "invalid mode (both)")
      fails({ mode = "client", protocol = "sslv2" }, "invalid protocol (sslv2)")
      fails({ mode = "client", options = { "all", "none" } }, "invalid option (none)")
      fails({ mode = "client", verify = "all" }, "invalid verify option (all)")
      fails({ mode = "client", verifyext = "all" }, "invalid verifyext option (all)")
      fails({ mode = "client", ciphers = "none" }, "ciphers 'none': no cipher match")
      fails({ mode = "client", curve = "round" }, "curve 'round': unknown curve")
      fails({ mode = "client", curveslist = "X448:flat" }, "curveslist 'X448:flat': unknown curve")
      fails({ mode = "client", alpn = {} }, "alpn: an empty list")
      fails({ mode = "client", alpn = { "h2", "" } },
            "alpn: invalid name at 2 (a string of 1 to 255 bytes expected)")
      fails({ mode = "client", alpn = print }, "alpn: a function is for servers")
      fails({ mode = "client", cafile = "/none" }, "cafile '/none': No such file or directory")
      fails({ mode = "server", certificate = "/none" },
            "certificate '/none': No such file or directory")
      fails({ mode = "server", key = "/none" }, "key '/none': No such file or directory")
      local file = folder:file("one.key")
      fails({ mode = "server", certificate = folder:file("two.pem"), key = file },
            ("key '%s': key values mismatch"):format(file))
      file = folder:file("one.pem")
      fails({ mode = "server", key = file }, ("key '%s': not in a known format"):format(file))
      file = folder:file("one.ext")
      fails({ mode = "server", certificate = file },
            ("certificate '%s': no start line"):format(file))
    end)

    it("raises for a field of the wrong type", function()
      assert.error_matches(function() ssl.newcontext { mode = "client", key = 1 } end,
                           "bad field 'key' %(string expected, got number%)")
      local sock, other <close> = socket.socketpair()
      assert.error_matches(function() ssl.wrap(sock, { verify = true }) end,
                           "bad field 'verify' %(string or table expected, got boolean%)")
      assert.truthy(sock:close() and other)
      assert.error_matches(function() ssl.newcontext("client") end,
                           "bad argument #1 to 'newcontext' %(table expected, got string%)")
      local err = support.error_of(function() ssl.newcontext {}; ssl.newcontext { mode = 1 } end)
      assert.truthy(err:find("ssl_context_spec.lua:", 1, true), err)
    end)

    it("asks for a password if the key has one", function()
      local locked = folder:params("server", "locked")
      local file = locked.key
      fails(locked, ("key '%s': "):format(file) .. "a password is needed")
      locked.password = "wrong"
      fails(locked, ("key '%s': bad decrypt"):format(file))
      locked.password = "sesame"
      assert(ssl.newcontext(locked))
      locked.password = function() return "sesame" end
      assert(ssl.newcontext(locked))
      assert(ssl.newcontext(folder:params("server", "one", { password = error })))
    end)

    it("makes what connections can share", function()
      local server, client = context("server", "server"), context("client")
      for _ = 1, 3 do
        local a, b = tls.pair(server, client, "server")
        tls.close(a, b)
      end
      assert.truthy(tostring(server):find("server", 1, true))
    end)

    it("takes several certificates", function()
      local server = context("server", nil, { certificates = {
        { certificate = folder:file("one.pem"), key = folder:file("one.key") } } })
      local _, client = pair(server, context("client"), "one")
      assert.equal("one", common_name(client))
    end)

    it("sets what is agreed on", function()
      local server = context("server", "server", { protocol = "tlsv1_2", curve = "P-384",
        ciphers = "ECDHE+AESGCM", options = "cipher_server_preference" })
      local _, client = pair(server, context("client"), "server")
      local info = client:info()
      assert.equal("TLSv1.2", client:info("protocol"))
      assert.equal("ECDH", info.key)
      assert.equal("ECDSA", info.authentication)
      assert.truthy(info.encryption:find("AESGCM", 1, true))
      assert.equal("AEAD", info.mac)
      assert.equal(info.bits, info.algbits)
      assert.is_false(info.export)
    end)

    it("sets what is agreed on with TLS 1.3", function()
      local server = context("server", "server", { ciphersuites = "TLS_CHACHA20_POLY1305_SHA256",
        dhparam = function(export, bits)
          assert.same({ false, 2048 }, { export, bits })
          local pipe <close> = assert(io.popen(
            "openssl genpkey -genparam -algorithm DH -pkeyopt group:ffdhe2048"))
          return pipe:read("a")
        end })
      local _, client = pair(server, context("client"), "server")
      assert.equal("TLSv1.3", client:info("protocol"))
      assert.equal("TLS_CHACHA20_POLY1305_SHA256", client:info("cipher"))
    end)

    it("makes ends that have no protocol in common fail", function()
      local server, client = wrap(context("server", "server", { protocol = "tlsv1_2" }),
                                  context("client", nil, { protocol = "tlsv1_3" }), "server")
      local of_server, of_client = tls.handshake(server, client)
      assert.same({ n = 2, nil, "unsupported protocol" }, of_server)
      assert.same({ n = 2, nil, "the peer's alert: protocol version" }, of_client)
    end)
  end)

  it("has what both ends know of the handshake", function()
    local server, client = pair(context("server", "server"), context("client"), "server")
    assert.equal(server:getfinished(), client:getpeerfinished())
    assert.equal(client:getfinished(), server:getpeerfinished())
    local keys = client:exportkeyingmaterial("EXPERIMENTAL", 20)
    assert.equal(20, #keys)
    assert.equal(keys, server:exportkeyingmaterial("EXPERIMENTAL", 20))
    assert.not_equal(keys, server:exportkeyingmaterial("EXPERIMENTAL", 20, "context"))
    assert.equal("nothing", client:want())
  end)

  it("knows nothing before the handshake", function()
    local server, client = wrap(context("server", "server"), context("client"), "server")
    assert.is_nil(client:info())
    assert.is_nil(client:getpeercertificate())
    assert.is_nil(client:getalpn())
    assert.is_nil(client:getfinished())
    assert.is_nil(client:getsession())
    assert.same({ false, "no handshake yet" }, { client:getpeerverification() })
    assert.is_nil(server:getsniname())
    assert.same({}, client:getpeerchain())
  end)

  describe("sni", function()
    it("chooses a server's context by name", function()
      local default = context("server", "server")
      local names = { one = context("server", "one"), two = context("server", "two") }
      for _, name in ipairs { "one", "two", "TWO", "server" } do
        local server, client = tls.wrap(default, context("client"), name)
        server:sni(names)
        local of_server, of_client = tls.handshake(server, client)
        assert.same({ true, true }, { of_server[1], of_client[1] })
        assert.equal(name, server:getsniname())
        assert.equal(name:lower(), common_name(client))
        tls.close(server, client)
      end
    end)

    it("refuses other names if strict", function()
      local server, client = wrap(context("server", "server"), context("client"), "server")
      server:sni({ one = context("server", "one") }, true)
      local of_server, of_client = tls.handshake(server, client)
      assert.is_nil(of_server[1])
      assert.same({ n = 2, nil, "the peer's alert: unrecognized name" }, of_client)
    end)

    it("takes a function, which may block", function()
      local server, client = wrap(context("server", "server"), context("client"), "two")
      local two = context("server", "two")
      server:sni(function(name)
        moonlet.sleep(0.001)
        return name == "two" and two or nil
      end)
      assert.same({ { n = 1, true }, { n = 1, true } }, { tls.handshake(server, client) })
      assert.equal("two", common_name(client))
    end)

    it("raises what the function raises, a kill too", function()
      local server, client = wrap(context("server", "server"), context("client"), "two")
      local asked
      server:sni(function()
        asked = true
        moonlet.sleep(1000)
      end)
      local greenlet = moonlet.spawn(server.dohandshake, server)
      local other = moonlet.spawn(client.dohandshake, client)
      support.eventually(function() return asked end)
      assert.same({ nil, "used by another greenlet amid its handshake" },
                  { server:dohandshake() })
      greenlet:kill()
      assert.truthy(greenlet.value:is(moonlet.GreenletExit))
      assert.is_nil((other:get()))

      local a, b = tls.wrap(context("server", "server"), context("client"), "two")
      a:sni(function() error("no such name", 0) end)
      other = moonlet.spawn(b.dohandshake, b)
      assert.equal("no such name", support.error_of(a.dohandshake, a))
      assert.is_nil((other:get()))
      tls.close(a, b)
    end)

    it("switches what is verified, too", function()
      local server, client = wrap(context("server", "server"), context("client"), "one")
      server:sni { one = context("server", "one", { cafile = folder:file("ca.pem"),
        verify = { "peer", "fail_if_no_peer_cert" } }) }
      local of_server = tls.handshake(server, client)
      assert.same({ n = 2, nil, "peer did not return a certificate" }, of_server)
    end)

    it("refuses what is no name", function()
      local server, client = wrap(context("server", "server"), context("client"))
      for _, name in ipairs { "", "a\0b" } do
        assert.error_matches(function() client:sni(name) end, "bad argument")
      end
      assert.error_matches(function() client:sni() end, "string, table or function expected")
      assert.is_true(server:sni {})
    end)
  end)

  describe("ALPN", function()
    local function chosen(server_alpn, client_alpn)
      local server, client = tls.pair(context("server", "server", { alpn = server_alpn }),
        context("client", nil, { alpn = client_alpn }), "server")
      local name = client:getalpn()
      assert.equal(name, server:getalpn())
      tls.close(server, client)
      return name
    end

    it("chooses by the server's preference", function()
      assert.equal("h2", chosen({ "h2", "http/1.1" }, { "http/1.1", "h2" }))
      assert.equal("http/1.1", chosen({ "h2", "http/1.1" }, "http/1.1"))
      assert.is_nil(chosen("h2", "http/1.1"))
      assert.is_nil(chosen("h2", nil))
      assert.is_nil(chosen(nil, "h2"))
    end)

    it("asks a function", function()
      local function choose(names)
        assert.same({ "a", "b", "c" }, names)
        return "b"
      end
      assert.equal("b", chosen(choose, { "a", "b", "c" }))
      assert.equal("c", chosen(function()
        moonlet.sleep(0)
        return { "x", "c", "a" }
      end, { "a", "b", "c" }))
      assert.is_nil(chosen(function() return "other" end, { "a" }))
      assert.is_nil(chosen(function() return nil end, { "a" }))
    end)
  end)

  describe("a session", function()
    -- A connection whose client has received something, and with it the session.
    local function session_of(server, client, name, session)
      local a, b = tls.wrap(server, client, name)
      if session then
        assert(b:setsession(session))
      end
      local of_server, of_client = tls.handshake(a, b)
      assert(table.unpack(of_client))
      assert(table.unpack(of_server))
      assert(a:send("x"))
      assert.equal("x", b:receive(1))
      local result, resumed = b:getsession(), b:info("resumed")
      tls.close(a, b)
      return result, resumed
    end

    for _, protocol in ipairs { "tlsv1_3", "tlsv1_2" } do
      it("is resumed with " .. protocol, function()
        local server = context("server", "server", { protocol = protocol })
        local client = context("client")
        local session, resumed = session_of(server, client, "server")
        assert.is_false(resumed)
        session, resumed = session_of(server, client, "server", session)
        assert.is_true(resumed)
        _, resumed = session_of(server, client, "server", session)
        assert.is_true(resumed)
        assert.truthy(tostring(session):find("server", 1, true))
      end)
    end

    it("is for one context and one name", function()
      local server = context("server", "server")
      local client = context("client", nil, { verify = "none" })
      local session = session_of(server, client, "server")
      local _, other = wrap(server, context("client"), "server")
      assert.is_nil((other:setsession(session)))
      local _, elsewhere = wrap(server, client, "elsewhere")
      assert.is_nil((elsewhere:setsession(session)))
      tls.close(elsewhere)
      assert.error_matches(function() other:setsession(42) end, "bad argument")
    end)
  end)
end)
