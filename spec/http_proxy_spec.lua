local certificates = require "support.certificates"
local http = require "moonlet.http"
local moonlet = require "moonlet"
local socket = require "moonlet.socket"
local support = require "support"
local web = require "support.web"

describe("moonlet.http with a proxy", function()
  local folder, proxy, client

  setup(function()
    folder = certificates.folder()
    folder:root("ca")
    folder:issue("server", { names = "DNS:localhost,DNS:example.org,IP:127.0.0.1" })
  end)

  teardown(function()
    folder:remove()
  end)

  -- What a proxy does for CONNECT.
  local function tunnel(peer, request)
    local host, port = request.target:match("^(.*):(%d+)$")
    local up <close> = assert(socket.create_connection { host == "example.org" and "127.0.0.1" or
                                                         host, tonumber(port) })
    peer:send("HTTP/1.1 200 Connected\r\nContent-Length: 5\r\n\r\n")
    local back <close> = web.copy(up, peer.stream)
    web.copy(peer.stream, up):join()
    return back
  end

  local function start(handle)
    client = http.Client { ssl = { cafile = folder:file("ca.pem") } }
    proxy = web.start(handle)
    finally(function()
      client:close()
      proxy:stop()
    end)
  end

  local function get(address, user, options)
    options = options or {}
    options.url = address
    options.proxy = ("http://%s127.0.0.1:%d"):format(user and user .. "@" or "", proxy.port)
    local response, message = client:request(options)
    return response, message
  end

  it("asks it for plain URLs, of any host on the same connection", function()
    start(function(peer)
      for request in peer.request, peer do
        peer:reply(nil, nil, request.target .. " " .. request.headers.host)
      end
    end)
    assert.equal("http://example.org/a?b example.org", get("http://example.org/a?b"):body())
    assert.equal("http://[::1]:81/ [::1]:81", get("http://u:p@[::1]:81#x"):body())
    assert.equal("Basic dTpw", proxy.requests[2].headers.authorization)
    assert.is_nil(proxy.requests[2].headers["proxy-authorization"])
    get("http://example.org/", "me:secret"):body()
    assert.equal("Basic bWU6c2VjcmV0", proxy.requests[3].headers["proxy-authorization"])
    assert.equal(1, proxy.count)
  end)

  it("reaches TLS servers through a tunnel, and keeps that", function()
    start(function(peer)
      tunnel(peer, peer:head())
    end)
    local server <close> = web.serve(function(peer, request)
      peer:reply(nil, nil, request.target .. " " .. request.headers.host .. " " .. request.body)
    end, { tls = folder:params("server", "server") })
    local address = "https://example.org:" .. server.port
    for _ = 1, 3 do
      local response = assert(get(address .. "/x", "me:secret"))
      assert.equal("/x example.org:" .. server.port .. " ", response:body())
    end
    local large = ("x"):rep(1000000)
    assert.equal(1000000 + #("/ example.org:" .. server.port .. " "),
                 #get(address, "me:secret", { body = large }):body())
    assert.equal(1, proxy.count)
    local head = proxy.requests[1]
    assert.equal("CONNECT", head.method)
    assert.equal("example.org:" .. server.port, head.target)
    assert.equal("example.org:" .. server.port, head.headers.host)
    assert.equal("Basic bWU6c2VjcmV0", head.headers["proxy-authorization"])
    assert.is_nil(server.requests[1].headers["proxy-authorization"])
    get(address, "you:secret"):body()
    assert.equal(2, proxy.count)
  end)

  it("verifies the server's certificate through it", function()
    start(function(peer)
      tunnel(peer, peer:head())
    end)
    local server <close> = web.serve(function(peer)
      peer:reply()
    end, { tls = folder:params("server", "server") })
    local response, message = get("https://localhost:" .. server.port, nil, { ssl = {} })
    assert.is_nil(response)
    assert.truthy(message:find("certificate verify failed", 1, true), message)
  end)

  it("says how it fails", function()
    local answer
    start(function(peer)
      peer:head()
      peer:send(answer)
    end)
    for text, message in pairs {
      ["HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 3\r\n\r\nno!"] =
        "the proxy refuses: 407 Proxy Authentication Required",
      ["HTTP/1.1 502 Bad Gateway\r\n\r\n"] = "the proxy refuses: 502 Bad Gateway",
      ["HTTP/1.1 200 OK\r\n\r\nextra"] = "the proxy sends data of its own",
      [""] = "the proxy fails: closed",
      ["HTTP/1.1 2"] = "the proxy fails: closed",
    } do
      answer = text
      local response, why = get("https://example.org/")
      assert.is_nil(response)
      assert.equal(message, why)
    end
    answer = "HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n"
    assert.equal(407, get("http://example.org/").status)
    proxy.listener:close()
    local response, why = get("https://example.org/")
    assert.is_nil(response)
    assert.equal("connection refused", why)
  end)

  it("is waited for no longer than connecting may take, and can be killed there", function()
    start(function(peer)
      peer:head()
      peer.stream:receive("*a")
    end)
    for _, name in ipairs { "timeout", "connect_timeout" } do
      local response, why = get("https://example.org/", nil, { [name] = 0.02 })
      assert.is_nil(response)
      assert.equal("timeout", why:match("timeout$"))
    end
    local g = moonlet.spawn(get, "https://example.org/")
    support.eventually(function()
      return #proxy.requests == 3
    end)
    g:kill()
    support.eventually(function()
      return proxy.open == 0
    end)
  end)

  describe("of the environment", function()
    -- What is found for URLs, one by one.
    local function find(env, ...)
      local run = support.run_script([[
        local proxy, url = require "moonlet.http.proxy", require "moonlet.http.url"
        for i = 1, #arg do
          local found, problem = proxy.find(url.parse(arg[i]))
          print(found and found.host .. ":" .. found.port .. (found.authorization or "") or problem)
        end
      ]], { env = env, args = { ... } })
      assert.equal("", run.stderr)
      return (run.stdout:gsub("\n$", ""):gsub("\n", " "))
    end

    it("is chosen by the scheme", function()
      local env = { http_proxy = "one:1", HTTPS_PROXY = "http://u:p@two:2/", ALL_PROXY = "three" }
      assert.equal("one:1 two:2Basic dTpw", find(env, "http://h", "https://h"))
      assert.equal("three:80 three:80", find({ all_proxy = "http://three" }, "http://h",
                                             "https://h"))
      assert.equal("nil nil", find({}, "http://h", "https://h"))
      assert.equal("nil", find({ HTTP_PROXY = "evil" }, "http://h"))
      assert.equal("nil", find({ http_proxy = "" }, "http://h"))
    end)

    it("is not for the hosts in no_proxy", function()
      local env = { http_proxy = "p:1", no_proxy = "one.org, .two.org,127.0.0.1 three.org:8,[::1]" }
      assert.equal("nil nil nil nil nil nil", find(env, "http://one.org", "http://ONE.org:5",
                                                   "http://a.one.org", "http://two.org",
                                                   "http://a.b.two.org", "http://127.0.0.1"))
      assert.equal("p:1 p:1 p:1 p:1 nil nil", find(env, "http://bone.org", "http://org",
                                                   "http://one.org.com", "http://three.org",
                                                   "http://three.org:8", "http://[::1]:7"))
      assert.equal("nil", find({ http_proxy = "p:1", NO_PROXY = "*" }, "http://h"))
    end)

    it("that makes no sense is an error", function()
      assert.equal("bad proxy in the environment for http (a proxy is spoken to by http, not " ..
                   "socks5)", find({ http_proxy = "socks5://p:1" }, "http://h"))
    end)

    it("is used, unless a request says otherwise", function()
      local run = support.run_script([[
        local http = require "moonlet.http"
        print(select(2, http.request { url = "http://127.0.0.1:1/", proxy = false }))
        print((select(2, http.request "http://127.0.0.1:1/")))
      ]], { env = { http_proxy = "socks5://p:1" } })
      assert.equal("connection refused\t111\nbad proxy in the environment for http (a " ..
                   "proxy is spoken to by http, not socks5)\n", run.stdout)
    end)
  end)
end)
