local address = require "moonlet.address"

describe("moonlet.address parse", function()
  local function parsed(expected, value)
    assert.same({ expected }, { address.parse(value) })
  end

  local function rubbish(value, why)
    local result, message = address.parse(value)
    assert.is_nil(result)
    assert.matches("^invalid address ", message)
    assert.truthy(message:find(why, 1, true), message)
  end

  it("takes a port, which is that of any host", function()
    for _, form in ipairs { 8080, "8080", ":8080", "*:8080", 8080.0 } do
      parsed({ host = "", port = 8080 }, form)
    end
    parsed({ host = "", port = 0 }, 0)
    parsed({ host = "", port = 65535 }, "65535")
  end)

  it("takes host and port", function()
    parsed({ host = "127.0.0.1", port = 80 }, "127.0.0.1:80")
    parsed({ host = "some-host.example", port = 80 }, "some-host.example:80")
    parsed({ host = "::1", port = 80 }, "[::1]:80")
    parsed({ host = "::", port = 80 }, "[::]:80")
    parsed({ host = "fe80::1%eth0", port = 80 }, "[fe80::1%eth0]:80")
    parsed({ host = "::ffff:10.0.0.1", port = 80 }, "[::ffff:10.0.0.1]:80")
  end)

  it("takes tables", function()
    parsed({ host = "127.0.0.1", port = 80 }, { "127.0.0.1", 80 })
    parsed({ host = "127.0.0.1", port = 80 }, { host = "127.0.0.1", port = "80" })
    parsed({ host = "", port = 80 }, { "", 80 })
    parsed({ host = "", port = 80 }, { "*", 80 })
    parsed({ host = "", port = 80 }, { nil, 80 })
    parsed({ host = "::1", port = 80 }, { "::1", 80 })
    parsed({ path = "/run/x" }, { path = "/run/x" })
  end)

  it("takes paths of unix sockets", function()
    parsed({ path = "/run/x:1" }, "unix:/run/x:1")
    parsed({ path = "relative" }, "unix:relative")
    parsed({ path = "\0abstract" }, "unix:\0abstract")
  end)

  it("says what is wrong with the rest", function()
    for _, text in ipairs { "", "host", "host:", "host:http", "::1", "::1:80", "[::1]", "[::1]80",
                            "a:b:80", "host:-1", "host:80 ", "unix:", "[host]:80", "[]:80",
                            "8080x", "0x50", "1e3" } do
      rubbish(text, "expected host:port")
    end
    rubbish("host:65536", "port out of range")
    rubbish("99999", "port out of range")
    rubbish("host:99999999999999999999", "port out of range")
    rubbish(65536, "port out of range")
    rubbish(-1, "port out of range")
    rubbish(80.5, "port out of range")
    rubbish("ho\0st:80", "NUL")
    rubbish({ "ho\0st", 80 }, "NUL")
    rubbish({}, "port expected")
    rubbish({ "host" }, "port expected")
    rubbish({ "host", 80.5 }, "port expected")
    rubbish({ "host", 65536 }, "port expected")
    rubbish({ 127, 80 }, "the host must be a string")
    rubbish({ path = 7 }, "the path must be a string")
    rubbish({ path = "" }, "the path must be a string")
    rubbish({ false, {} }, "port expected")
    rubbish(nil, "address expected, got nil")
    rubbish(true, "address expected, got boolean")
    rubbish(print, "address expected, got function")
  end)
end)
