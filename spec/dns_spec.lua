local moonlet = require "moonlet"
local dns = require "moonlet.socket.dns"
local event = require "moonlet.event"
local moonlet_socket = require "moonlet.socket"
local nameserver = require "support.nameserver"
local socket = require "socket"
local support = require "support"

local NOT_KNOWN = "host or service not provided, or not known"

-- A name that the C library refuses before it asks anybody.
local HOPELESS = ("x"):rep(64) .. ".invalid"

local function failed(message, code, ...)
  assert.same({ n = 3, nil, message, code }, table.pack(...))
end

local function timed_out(...)
  assert.same({ n = 2, nil, "timeout" }, table.pack(...))
end

-- ["A"] = "192.0.2.1" ... in place of a list of records.
local function records(data)
  local list = {}
  for kind, text in pairs(data) do
    list[#list + 1] = { type = kind, data = text }
  end
  return list
end

local function addresses(infos)
  local list = {}
  for i, info in ipairs(assert(infos)) do
    list[i] = info.family .. " " .. info.addr
  end
  table.sort(list)
  return table.concat(list, ", ")
end

describe("moonlet.socket.dns", function()
  after_each(function()
    dns.resolver = "thread"
    dns.servers = nil
  end)

  -- ---- whoever looks names up ----

  for _, resolver in ipairs { "thread", "ares", "block" } do
    describe("with the resolver '" .. resolver .. "'", function()
      before_each(function()
        dns.resolver = resolver
      end)

      it("finds the names in /etc/hosts", function()
        assert.truthy(addresses(dns.getaddrinfo("localhost")):find("inet 127.0.0.1", 1, true))
        local ip, entry = dns.toip("localhost")
        assert.equal("127.0.0.1", ip)
        assert.equal("127.0.0.1", entry.ip[1])
        local name
        name, entry = dns.tohostname("127.0.0.1")
        assert.equal("localhost", name)
        assert.equal("localhost", entry.name)
        assert.same({ "127.0.0.1" }, entry.ip)
        assert.same({ "localhost" }, (dns.getnameinfo("127.0.0.1")))
      end)

      it("returns what LuaSocket returns", function()
        local real = socket.dns
        assert.equal(addresses(real.getaddrinfo("localhost")),
                     addresses(dns.getaddrinfo("localhost")))
        for _, host in ipairs { "127.0.0.1", "::1", "0.0.0.12", "12" } do
          assert.same({ real.getaddrinfo(host) }, { dns.getaddrinfo(host) })
        end
        for _, host in ipairs { "localhost", "127.0.0.1" } do
          assert.same({ real.toip(host) }, { dns.toip(host) })
          assert.same({ real.tohostname(host) }, { dns.tohostname(host) })
          assert.same({ real.getnameinfo(host, "http") }, { dns.getnameinfo(host, "http") })
        end
        assert.same({ real.getnameinfo("127.0.0.1", 80) }, { dns.getnameinfo("127.0.0.1", 80) })
        assert.same({ real.getnameinfo(nil, "domain") }, { dns.getnameinfo(nil, "domain") })
        assert.equal(real.gethostname(), dns.gethostname())
      end)

      it("says which service is not known", function()
        local message = select(2, socket.dns.getnameinfo("127.0.0.1", "no-such-service"))
        failed(message, dns.EAI_SERVICE, dns.getnameinfo("127.0.0.1", "no-such-service"))
        failed(message, dns.EAI_SERVICE, dns.getnameinfo("localhost", "no-such-service"))
        failed(message, dns.EAI_SERVICE, dns.getnameinfo(nil, "no-such-service"))
      end)

      it("does not know names that cannot be, and asks nobody", function()
        for _, host in ipairs { "", ("a."):rep(200), ("a"):rep(256) } do
          failed(NOT_KNOWN, dns.EAI_NONAME, dns.getaddrinfo(host, 0))
          failed(NOT_KNOWN, dns.EAI_NONAME, dns.getnameinfo(host, nil, 0))
          failed("host not found", dns.EAI_NONAME, dns.toip(host, 0))
          failed("host not found", dns.EAI_NONAME, dns.tohostname(host, 0))
        end
      end)

      it("does not know a name with too long a part", function()
        failed(NOT_KNOWN, dns.EAI_NONAME, dns.getaddrinfo(HOPELESS))
        failed("host not found", dns.EAI_NONAME, dns.toip(HOPELESS))
      end)

      it("answers numeric addresses without waiting", function()
        assert.equal("inet 192.0.2.1", addresses(dns.getaddrinfo("192.0.2.1", 0)))
        assert.equal("inet6 2001:db8::1", addresses(dns.getaddrinfo("2001:db8::1", 0)))
      end)

      it("looks up many names at once", function()
        local greenlets = {}
        for i = 1, 30 do
          greenlets[i] = moonlet.spawn(dns.toip, "localhost")
        end
        for _, greenlet in ipairs(greenlets) do
          assert.equal("127.0.0.1", (greenlet:get()))
        end
      end)

      it("works wherever a wait may stand", function()
        local text = ("localhost"):gsub("%w+", function(name)
          return (dns.toip(name))
        end)
        assert.equal("127.0.0.1", text)
        local generate = coroutine.wrap(function()
          coroutine.yield((dns.toip("localhost")))
          coroutine.yield((dns.tohostname("127.0.0.1")))
        end)
        assert.equal("127.0.0.1", generate())
        assert.equal("localhost", generate())
      end)

      it("finds a host's full name", function()
        assert.equal("string", type(dns.getfqdn()))
        assert.equal(dns.getfqdn(), dns.getfqdn(""))
        assert.equal(dns.getfqdn(), dns.getfqdn("0.0.0.0"))
        assert.equal(dns.getfqdn(), dns.getfqdn("::"))
        assert.equal(HOPELESS, dns.getfqdn(HOPELESS))
      end)
    end)
  end

  -- ---- threads ----

  describe("in threads", function()
    it("can be killed", function()
      for _, name in ipairs { "getaddrinfo", "toip", "tohostname", "getfqdn", "getnameinfo" } do
        local greenlet = moonlet.spawn(dns[name], "localhost")
        moonlet.sleep(0)
        assert.is_true(greenlet:kill())
        assert.is_true(greenlet:successful())
      end
    end)

    it("knows no name below .invalid", function()
      local infos, message, code = dns.getaddrinfo("nonexist.invalid", 10)
      assert.is_nil(infos)
      if message ~= "timeout" then
        assert.is_true(code == dns.EAI_NONAME or code == dns.EAI_AGAIN)
      end
    end)

    it("prints nothing about a failure", function()
      local result = support.run_script(([[
        local moonlet = require "moonlet"
        local dns = require "moonlet.socket.dns"
        moonlet.spawn(dns.getaddrinfo, "%s"):join()
      ]]):format(HOPELESS))
      assert.same({ status = 0, stdout = "", stderr = "" }, result)
    end)
  end)

  it("holds all greenlets up in the resolver 'block'", function()
    dns.resolver = "block"
    local ran = false
    local other = moonlet.spawn(function()
      ran = true
    end)
    assert(dns.getaddrinfo("localhost"))
    assert.is_false(ran)
    other:join()
  end)

  -- ---- arguments ----

  describe("arguments", function()
    local takers = { "getaddrinfo", "toip", "tohostname", "getfqdn", "getnameinfo" }

    it("may not be names with zeros in them", function()
      for _, name in ipairs(takers) do
        assert.error_matches(function() dns[name]("local\0host") end,
                             "bad argument #1 to '.-' %(string contains zeros%)")
      end
      assert.error_matches(function() dns.getnameinfo("localhost", "ht\0tp") end,
                           "bad argument #2 to 'getnameinfo' %(string contains zeros%)")
    end)

    it("must be strings", function()
      for _, name in ipairs(takers) do
        assert.error_matches(function() dns[name]({}) end,
                             "bad argument #1 to '.-' %(string expected, got table%)")
      end
      for _, name in ipairs { "getaddrinfo", "toip", "tohostname" } do
        assert.error_matches(function() dns[name]() end,
                             "bad argument #1 to '.-' %(string expected, got no value%)")
      end
      assert.error_matches(function() dns.getnameinfo("localhost", {}) end,
                           "bad argument #2 to 'getnameinfo' %(string expected, got table%)")
      assert.error_matches(function() dns.getnameinfo() end, "host and serv cannot be both nil")
    end)

    it("may be numbers for services, in digits too", function()
      assert.equal("http", select(2, dns.getnameinfo("127.0.0.1", 80)))
      assert.equal("http", select(2, dns.getnameinfo("127.0.0.1", "80")))
      assert.is_nil((dns.getnameinfo("127.0.0.1", -1)))
    end)

    it("may end with a timeout, and with nothing else", function()
      local message = "%(number expected, got string%)"
      assert.error_matches(function() dns.getaddrinfo("localhost", "soon") end, message)
      assert.error_matches(function() dns.toip("localhost", "soon") end, message)
      assert.error_matches(function() dns.tohostname("localhost", "soon") end, message)
      assert.error_matches(function() dns.getfqdn("localhost", "soon") end, message)
      assert.error_matches(function() dns.getnameinfo("localhost", nil, "soon") end, message)
    end)
  end)

  -- ---- the setting ----

  describe("resolver", function()
    it("is a thread if nothing else is said", function()
      assert.equal("thread", dns.resolver)
    end)

    it("is set to a name, or to a list of which the first that loads is taken", function()
      dns.resolver = "block"
      assert.equal("block", dns.resolver)
      dns.resolver = { "ares", "thread" }
      assert.equal("ares", dns.resolver)
      dns.resolver = "thread, block"
      assert.equal("thread", dns.resolver)
    end)

    local function without_ares(f)
      local name = "moonlet.ares.core"
      local loaded = package.loaded[name]
      package.loaded[name] = nil
      package.preload[name] = function()
        error("no c-ares here", 0)
      end
      finally(function()
        package.loaded[name], package.preload[name] = loaded, nil
      end)
      f()
    end

    it("is the next of the list where one does not load", function()
      without_ares(function()
        dns.resolver = { "ares", "block" }
        assert.equal("block", dns.resolver)
      end)
    end)

    it("stays what it is if none loads, which is an error that says why", function()
      without_ares(function()
        assert.error_matches(function() dns.resolver = "ares" end, "no c%-ares here")
        assert.equal("thread", dns.resolver)
      end)
    end)

    it("must be known", function()
      for _, value in ipairs { "dnspython", { "thread", "dnspython" }, "thread,dnspython" } do
        assert.error_matches(function() dns.resolver = value end,
                             "unknown resolver 'dnspython': there are 'thread', 'ares' and 'block'")
      end
      assert.error_matches(function() dns.resolver = {} end, "no resolver is named")
      assert.error_matches(function() dns.resolver = "" end, "no resolver is named")
      assert.error_matches(function() dns.resolver = { 1 } end, "not a number value")
      assert.error_matches(function() dns.resolver = nil end, "not a nil value")
      assert.equal("thread", dns.resolver)
    end)

    local SHOW = "print(require('moonlet.socket.dns').resolver)"

    it("is chosen by the environment", function()
      assert.equal("block\n",
                   support.run_script(SHOW, { env = { MOONLET_RESOLVER = "block" } }).stdout)
      assert.equal("ares\n",
                   support.run_script(SHOW, { env = { MOONLET_RESOLVER = "ares,thread" } }).stdout)
      assert.equal("thread\n", support.run_script(SHOW, { env = { MOONLET_RESOLVER = "" } }).stdout)
    end)

    it("must be known in the environment too", function()
      local result = support.run_script(SHOW, { env = { MOONLET_RESOLVER = "dnspython" } })
      assert.equal(1, result.status)
      assert.truthy(result.stderr:find("MOONLET_RESOLVER: unknown resolver 'dnspython'", 1, true))
    end)
  end)

  it("keeps other fields like any table", function()
    dns.mine = 1
    finally(function()
      dns.mine = nil
    end)
    assert.equal(1, dns.mine)
    assert.is_nil(dns.nothing)
  end)

  -- ---- c-ares and a name server ----

  describe("with c-ares", function()
    local function serve(zone)
      local server = nameserver.start(zone)
      dns.resolver = "ares"
      dns.servers = server.address
      return server
    end

    it("asks the servers that are set", function()
      local server <close> = serve { ["one.test"] = records { A = "192.0.2.1" } }
      assert.equal(server.address, dns.servers)
      assert.same({ { family = "inet", addr = "192.0.2.1" } }, dns.getaddrinfo("one.test"))
      assert.same({ "192.0.2.1", { name = "one.test", alias = {}, ip = { "192.0.2.1" } } },
                  { dns.toip("one.test") })
      assert.equal("one.test A", server.asked[1])
    end)

    it("finds addresses of both families", function()
      local server <close> = serve {
        ["both.test"] = records { A = "192.0.2.1", AAAA = "2001:db8::1" },
        ["six.test"] = records { AAAA = "2001:db8::6" },
      }
      assert.equal("inet 192.0.2.1, inet6 2001:db8::1", addresses(dns.getaddrinfo("both.test")))
      assert.equal("inet6 2001:db8::6", addresses(dns.getaddrinfo("six.test")))
      failed("host not found", dns.EAI_NONAME, dns.toip("six.test"))
      assert.equal("127.0.0.1", server.address:match("^[^:]+"))
    end)

    it("follows aliases", function()
      local server <close> = serve {
        ["alias.test"] = { { type = "CNAME", data = "one.test" },
                           { name = "one.test", type = "A", data = "192.0.2.1" } },
      }
      assert.equal("inet 192.0.2.1", addresses(dns.getaddrinfo("alias.test")))
      local name, entry = dns.tohostname("alias.test")
      assert.equal("one.test", name)
      assert.same({ name = "one.test", alias = { "alias.test" }, ip = { "192.0.2.1" } }, entry)
      assert.equal("one.test", dns.getfqdn("alias.test"))
      assert.truthy(server.asked[1])
    end)

    it("finds names of addresses", function()
      local server <close> = serve {
        ["1.2.0.192.in-addr.arpa"] = records { PTR = "one.test" },
        ["one.test"] = records { A = "192.0.2.1" },
      }
      assert.same({ "one.test", { name = "one.test", alias = {}, ip = { "192.0.2.1" } } },
                  { dns.tohostname("192.0.2.1") })
      assert.same({ { "one.test" }, "http" }, { dns.getnameinfo("192.0.2.1", "http") })
      assert.same({ { "one.test" } }, { dns.getnameinfo("one.test") })
      assert.same({ { "192.0.2.2" } }, { dns.getnameinfo("192.0.2.2") })
      failed("host not found", dns.EAI_NONAME, dns.tohostname("192.0.2.2"))
      assert.equal("1.2.0.192.in-addr.arpa PTR", server.asked[1])
    end)

    it("says what is not there", function()
      local server <close> = serve { ["empty.test"] = {}, ["broken.test"] = { rcode = 2 } }
      failed(NOT_KNOWN, dns.EAI_NONAME, dns.getaddrinfo("missing.test"))
      failed("host not found", dns.EAI_NONAME, dns.toip("missing.test"))
      failed("host not found", dns.EAI_NONAME, dns.toip("empty.test"))
      local code = select(3, dns.getaddrinfo("empty.test"))
      assert.equal(dns.EAI_NODATA, code)
      failed("temporary failure in name resolution", dns.EAI_AGAIN, dns.getaddrinfo("broken.test"))
      assert.equal("missing.test", dns.getfqdn("missing.test"))
      assert.truthy(server.asked[1])
    end)

    it("asks again over TCP what does not fit", function()
      local big = records { A = "192.0.2.9" }
      big.truncated = true
      local server <close> = serve { ["big.test"] = big }
      assert.equal("192.0.2.9", (dns.toip("big.test")))
      assert.equal(2, #server.asked)
    end)

    it("lets others run while an answer is slow", function()
      local gate = event.Event()
      local server <close> = serve {
        ["slow.test"] = function(kind)
          gate:wait()
          return kind == "A" and records { A = "192.0.2.1" } or {}
        end,
        ["quick.test"] = records { A = "192.0.2.2" },
      }
      local slow = moonlet.spawn(dns.toip, "slow.test")
      support.eventually(function()
        return #server.asked > 0
      end)
      assert.equal("192.0.2.2", (dns.toip("quick.test")))
      assert.is_false(slow:ready())
      gate:set()
      assert.equal("192.0.2.1", (slow:get()))
    end)

    it("looks up many names at once", function()
      local all = event.Event()
      local waiting = 0
      local zone = {}
      for i = 1, 30 do
        zone[("n%d.test"):format(i)] = function()
          waiting = waiting + 1
          if waiting == 30 then
            all:set()
          end
          all:wait()
          return records { A = "192.0.2." .. i }
        end
      end
      local server <close> = serve(zone)
      local greenlets = {}
      for i = 1, 30 do
        greenlets[i] = moonlet.spawn(dns.toip, ("n%d.test"):format(i))
      end
      for i, greenlet in ipairs(greenlets) do
        assert.equal("192.0.2." .. i, (greenlet:get()))
      end
      assert.equal(30, #server.asked)
    end)

    it("gives up at the timeout when nobody answers", function()
      local server <close> = serve {
        ["silent.test"] = false,
        ["1.2.0.192.in-addr.arpa"] = false,
        ["half.test"] = records { A = "192.0.2.1" },
      }
      timed_out(dns.getaddrinfo("silent.test", 0.01))
      timed_out(dns.toip("silent.test", 0.01))
      timed_out(dns.tohostname("192.0.2.1", 0.01))
      timed_out(dns.getfqdn("silent.test", 0.01))
      timed_out(dns.getnameinfo("silent.test", nil, 0.01))
      timed_out(dns.getnameinfo("192.0.2.1", nil, 0.01))
      timed_out(dns.getnameinfo("half.test", nil, 0.05))
      timed_out(dns.toip("silent.test", 0))
      assert.truthy(server.asked[1])
    end)

    it("is interrupted by a Timeout", function()
      local server <close> = serve { ["silent.test"] = false }
      local timeout <close> = moonlet.Timeout(0.01)
      timeout:start()
      assert.equal(timeout, support.error_of(dns.toip, "silent.test"))
      assert.truthy(server.asked[1])
      local other <close> = moonlet.Timeout(0.01)
      other:start()
      assert.equal(other, support.error_of(dns.toip, "silent.test", other))
    end)

    it("can be killed, and drops the late answer", function()
      local gate = event.Event()
      local server <close> = serve {
        ["slow.test"] = function()
          gate:wait()
          return records { A = "192.0.2.1" }
        end,
      }
      local greenlet = moonlet.spawn(dns.toip, "slow.test")
      support.eventually(function()
        return #server.asked > 0
      end)
      greenlet:kill()
      assert.is_true(greenlet:ready())
      gate:set()
      support.turns()
      collectgarbage()
      assert.equal("192.0.2.1", (dns.toip("slow.test")))
    end)

    it("goes on with a lookup when the resolver is changed", function()
      local gate = event.Event()
      local server <close> = serve {
        ["slow.test"] = function()
          gate:wait()
          return records { A = "192.0.2.1" }
        end,
      }
      local greenlet = moonlet.spawn(dns.toip, "slow.test")
      support.eventually(function()
        return #server.asked > 0
      end)
      dns.resolver = "thread"
      gate:set()
      assert.equal("192.0.2.1", (greenlet:get()))
    end)

    it("has connect use it too", function()
      local server <close> = serve { ["here.test"] = records { A = "127.0.0.1" } }
      local listener = assert(moonlet_socket.bind("127.0.0.1", 0))
      local _, port = listener:getsockname()
      local client = assert(moonlet_socket.connect("here.test", port))
      assert.equal("127.0.0.1", (client:getpeername()))
      client:close()
      listener:close()
      local _, message = moonlet_socket.connect("missing.test", port)
      assert.equal(NOT_KNOWN, message)
      assert.equal("here.test A", server.asked[1])
    end)

    it("says when nobody listens at the server's port", function()
      dns.resolver = "ares"
      dns.servers = "127.0.0.1:1"
      failed("temporary failure in name resolution", dns.EAI_AGAIN, dns.getaddrinfo("one.test"))
    end)

    it("is told servers only if they are some, and it is the resolver", function()
      assert.error_matches(function() dns.servers = "127.0.0.1" end,
                           "the resolver 'thread' asks the system's")
      dns.resolver = "ares"
      assert.error_matches(function() dns.servers = "not an address" end,
                           "no list of addresses: 'not an address'")
      assert.error_matches(function() dns.servers = {} end, "not a table value")
      assert.is_nil(dns.servers)
    end)
  end)
end)
