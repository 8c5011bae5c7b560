local Cookies = require("moonlet.http").Cookies
local url = require "moonlet.http.url"

-- What a jar sends to a URL after it was given fields by others: { url, field, url, field ... }.
local function sent(given, to)
  local jar = Cookies()
  for i = 1, #given, 2 do
    jar:set(url.parse(given[i]), given[i + 1])
  end
  return jar:get(url.parse(to)), jar
end

-- What a field from http://a.example.org/x/y sends to a URL, which is that one if nil.
local function one(field, to)
  return (sent({ "http://a.example.org/x/y", field }, to or "http://a.example.org/x/y"))
end

describe("cookies", function()
  it("are sent back to the host that has set them, and to no other", function()
    assert.equal("a=b", one("a=b"))
    assert.equal("a=b", one("a=b", "http://A.Example.ORG:8080/x/"))
    assert.is_nil(one("a=b", "http://example.org/x/y"))
    assert.is_nil(one("a=b", "http://b.a.example.org/x/y"))
    assert.is_nil(one("a=b", "http://evila.example.org/x/y"))
  end)

  it("are a name and a value, whatever else is there", function()
    for field, expected in pairs {
      ["a=b; HttpOnly; SameSite=Lax; Unknown=1"] = "a=b",
      ["  a = b c  ;x"] = "a=b c",
      ["a="] = "a=",
      ["a==b="] = "a==b=",
      ['a="b"'] = 'a="b"',
      ["a=b;;; ;=;"] = "a=b",
      ["a b=c"] = "a b=c",
    } do
      assert.equal(expected, one(field), field)
    end
    for _, field in ipairs { "", "a", "=b", " ; a=b", "a=" .. ("x"):rep(4096) } do
      assert.is_nil(one(field), field)
    end
  end)

  it("are for a whole domain if they say so", function()
    for _, domain in ipairs { "example.org", ".example.org", "EXAMPLE.org" } do
      local field = "a=b; Domain=" .. domain
      for _, host in ipairs { "example.org", "a.example.org", "x.y.example.org" } do
        assert.equal("a=b", one(field, "http://" .. host .. "/x/y"))
      end
      assert.is_nil(one(field, "http://badexample.org/x/y"))
      assert.is_nil(one(field, "http://org/x/y"))
    end
    assert.equal("a=b", one("a=b; domain=a.example.org", "http://b.a.example.org/x/y"))
    assert.equal("a=b", one("a=b; domain="))
    assert.is_nil(one("a=b; domain=", "http://b.a.example.org/x/y"))
    assert.equal("a=b", one("a=b; domain=other.org; domain=example.org"))
  end)

  it("are not taken for a domain that is not the host's, or a top one", function()
    for _, domain in ipairs { "b.example.org", "c.a.example.org", "org", ".org", "other.org",
                              "ample.org" } do
      assert.is_nil(one("a=b; Domain=" .. domain), domain)
      assert.is_nil(one("a=b; Domain=" .. domain, "http://" .. domain:gsub("^%.", "") .. "/x/y"))
    end
    assert.equal("a=b", (sent({ "http://localhost/", "a=b; Domain=localhost" },
                              "http://localhost/")))
    assert.is_nil((sent({ "http://127.0.0.1/", "a=b; Domain=0.0.1" }, "http://127.0.0.1/")))
    assert.equal("a=b", (sent({ "http://127.0.0.1/", "a=b; Domain=127.0.0.1" },
                              "http://127.0.0.1/")))
    assert.is_nil((sent({ "http://127.0.0.1/", "a=b; Domain=127.0.0.1" }, "http://1.127.0.0.1/")))
  end)

  it("are for a path, by default that of the request up to its last slash", function()
    assert.is_nil(one("a=b", "http://a.example.org/"))
    assert.is_nil(one("a=b", "http://a.example.org/xy"))
    assert.equal("a=b", one("a=b", "http://a.example.org/x"))
    assert.equal("a=b", one("a=b", "http://a.example.org/x/z/w?q"))
    assert.equal("a=b", one("a=b; Path=/", "http://a.example.org/"))
    assert.equal("a=b", one("a=b; Path=/z", "http://a.example.org/z/1"))
    assert.equal("a=b", one("a=b; Path=/z/", "http://a.example.org/z/1"))
    assert.is_nil(one("a=b; Path=/z/", "http://a.example.org/z"))
    assert.is_nil(one("a=b; Path=/z", "http://a.example.org/zz"))
    assert.is_nil(one("a=b; Path=z", "http://a.example.org/z"))
    assert.equal("a=b", one("a=b; Path=z"))
    assert.equal("a=b", (sent({ "http://h/x", "a=b" }, "http://h/y")))
  end)

  it("that are secure go by https only, and come by it", function()
    local given = { "https://h.org/", "a=b; Secure" }
    assert.equal("a=b", (sent(given, "https://h.org/")))
    assert.is_nil((sent(given, "http://h.org/")))
    assert.is_nil((sent({ "http://h.org/", "a=b; Secure" }, "https://h.org/")))
  end)

  it("whose names promise something have to keep it", function()
    local function by_https(field)
      return (sent({ "https://a.h.org/x/", field }, "https://a.h.org/x/"))
    end
    assert.equal("__Secure-a=b", by_https("__Secure-a=b; Secure"))
    assert.is_nil(by_https("__Secure-a=b"))
    assert.equal("__Host-a=b", by_https("__Host-a=b; Secure; Path=/"))
    assert.is_nil(by_https("__Host-a=b; Secure"))
    assert.is_nil(by_https("__Host-a=b; Path=/"))
    assert.is_nil(by_https("__Host-a=b; Secure; Path=/; Domain=h.org"))
  end)

  it("end by Max-Age, which goes before Expires", function()
    local future, past = "; Expires=Wed, 21 Oct 2099 07:28:00 GMT", "; Expires=Thu, 01-Jan-1970 " ..
                                                                    "00:00:01 GMT"
    for field, stays in pairs {
      ["a=b; Max-Age=100"] = true,
      ["a=b; Max-Age=0"] = false,
      ["a=b; max-age=-1"] = false,
      ["a=b; Max-Age=x"] = true,
      ["a=b; Max-Age=99999999999999999999"] = true,
      ["a=b" .. future] = true,
      ["a=b" .. past] = false,
      ["a=b; Max-Age=100" .. past] = true,
      ["a=b; Max-Age=0" .. future] = false,
      ["a=b; Expires=some day"] = true,
    } do
      assert.equal(stays and "a=b" or nil, one(field), field)
    end
  end)

  it("have dates in all forms that servers send", function()
    for date, stays in pairs {
      ["Wed, 21 Oct 2099 07:28:00 GMT"] = true,
      ["Wednesday, 21-Oct-99 07:28:00 GMT"] = false, -- 1999
      ["Wednesday, 21-Oct-60 07:28:00 GMT"] = true, -- 2060
      ["Wed Oct 21 07:28:00 2099"] = true,
      ["21 october 2099 7:28:0"] = true,
      ["07:28:00 2099 Oct 21"] = true,
      ["Mon, 01 Jan 1990 00:00:00 GMT"] = false,
      ["Sun, 06 Nov 1994 08:49:37 GMT"] = false,
      ["Mon, 32 Jan 1990 00:00:00 GMT"] = true, -- no date
      ["Mon, 01 Jan 1600 00:00:00 GMT"] = true,
      ["Mon, 01 Jan 1990 24:00:00 GMT"] = true,
      ["Mon, 01 Jan 1990"] = true,
      ["Mon, 01 Foo 1990 00:00:00 GMT"] = true,
    } do
      assert.equal(stays and "a=b" or nil, one("a=b; Expires=" .. date), date)
    end
  end)

  it("are replaced, and deleted, by others of the same name, domain and path", function()
    local from = "http://h.org/x/"
    assert.equal("a=2", (sent({ from, "a=1", from, "a=2" }, from)))
    assert.equal("a=1; A=2", (sent({ from, "a=1", from, "A=2" }, from)))
    assert.equal("b=2", (sent({ from, "a=1", from, "b=2", from, "a=x; Max-Age=0" }, from)))
    assert.equal("a=1", (sent({ from, "a=1", from, "a=x; Max-Age=0; Path=/" }, from)))
  end)

  it("are sent longer paths first, then older ones", function()
    local from = "http://h.org/x/y/"
    assert.equal("d=4; a=1; b=2; c=3", (sent({
      from, "a=1; Path=/x", from, "b=2; Path=/x", from, "c=3; Path=/", from, "d=4",
    }, from)))
    assert.equal("a=9; b=2", (sent({ from, "a=1", from, "b=2", from, "a=9" }, from)))
  end)

  it("are not kept without limits: the oldest give way", function()
    local given = {}
    for i = 1, 60 do
      table.insert(given, "http://h.org/")
      table.insert(given, ("n%d=x"):format(i))
    end
    local text, jar = sent(given, "http://h.org/")
    assert.equal(50, #jar)
    assert.equal("n11=x;", text:match("^%S+"))
    for i = 1, 3100 do
      jar:set(url.parse(("http://h%d.org/"):format(i)), "a=b")
    end
    assert.equal(3000, #jar)
    assert.equal("<Cookies: 3000>", tostring(jar))
    jar:clear()
    assert.is_nil(jar:get(url.parse("http://h3000.org/")))
  end)
end)
