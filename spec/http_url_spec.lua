local url = require "moonlet.http.url"

-- The parts that a URL has, as a text.
local function parts(text)
  local found, problem = url.parse(text)
  if not found then
    return problem
  end
  return ("%s|%s|%s|%d|%s"):format(found.scheme, found.user or "", found.host, found.port,
                                   found.target)
end

describe("URLs:", function()
  it("are taken apart", function()
    for text, expected in pairs {
      ["http://host"] = "http||host|80|/",
      ["HTTP://Host:/"] = "http||host|80|/",
      ["https://host/a/b?c=d#e"] = "https||host|443|/a/b?c=d",
      ["http://host:8080?q"] = "http||host|8080|/?q",
      ["http://host/?"] = "http||host|80|/?",
      ["http://user:pa%20ss@host/"] = "http|user:pa%20ss|host|80|/",
      ["http://a@b@host/"] = "http|a@b|host|80|/",
      ["http://[::1]:81/x"] = "http||::1|81|/x",
      ["http://[2001:db8::7]"] = "http||2001:db8::7|80|/",
      ["http://[fe80::1%25eth0]/"] = "http||fe80::1%eth0|80|/",
      ["http://a_b-c.example./"] = "http||a_b-c.example.|80|/",
      ["http://host/a b?c d&e=\"f\""] = "http||host|80|/a%20b?c%20d&e=%22f%22",
      ["http://host/\195\164?\195\188"] = "http||host|80|/%C3%A4?%C3%BC",
      ["http://host/%41%zz/[x]"] = "http||host|80|/%41%zz/[x]",
      ["http://host/a\r\nX: y"] = "http||host|80|/a%0D%0AX:%20y",
      ["http://host/a//b/../c"] = "http||host|80|/a//b/../c",
    } do
      assert.equal(expected, parts(text))
    end
  end)

  it("that are none are refused", function()
    for _, text in ipairs { "", "host", "/path", "http:host", "http:/host", "://host" } do
      assert.truthy(parts(text):find("scheme://host expected", 1, true), text)
    end
    for _, text in ipairs {
      "http://", "http:///x", "http://user@/", "http://:80/", "http://a b/", "http://a\r\nb/",
      "http://[::1/", "http://::1/", "http://[]/", "http://[host]/", "http://[12]/",
      "http://good\\@evil/", "http://h\195\182st/",
      "http://ho%73t/", "http://a:b:c/", "http://a:8x",
      "http://" .. ("x"):rep(254) .. "/",
    } do
      assert.truthy(parts(text):find("(host expected)", 1, true), text)
    end
    for _, text in ipairs { "http://a:0/", "http://a:65536/", "http://a:99999999999999999999/" } do
      assert.truthy(parts(text):find("(port out of range)", 1, true), text)
    end
    assert.truthy(parts("gopher://a/"):find("(unknown scheme)", 1, true))
  end)

  it("are put together, without the user", function()
    for text, expected in pairs {
      ["http://u:p@Host:80/a?b#c"] = "http://host/a?b",
      ["https://host:80"] = "https://host:80/",
      ["http://[::1]/"] = "http://[::1]/",
      ["http://[fe80::1%25eth0]:8/"] = "http://[fe80::1]:8/",
    } do
      assert.equal(expected, url.build(url.parse(text)))
    end
    assert.equal("[::1]:80", url.endpoint(url.parse("http://[::1]/")))
    assert.equal("host:443", url.endpoint(url.parse("https://host/")))
  end)

  it("are resolved where a reference stands (RFC 3986 5.4)", function()
    local base = url.parse("http://a/b/c/d;p?q")
    for reference, expected in pairs {
      ["http://g"] = "http://g",
      ["g:h"] = "g:h",
      ["g"] = "http://a/b/c/g",
      ["./g"] = "http://a/b/c/g",
      ["g/"] = "http://a/b/c/g/",
      ["/g"] = "http://a/g",
      ["//g"] = "http://g",
      ["?y"] = "http://a/b/c/d;p?y",
      ["g?y"] = "http://a/b/c/g?y",
      ["#s"] = "http://a/b/c/d;p?q",
      ["g#s"] = "http://a/b/c/g",
      ["g?y#s"] = "http://a/b/c/g?y",
      [";x"] = "http://a/b/c/;x",
      ["g;x"] = "http://a/b/c/g;x",
      [""] = "http://a/b/c/d;p?q",
      ["."] = "http://a/b/c/",
      ["./"] = "http://a/b/c/",
      [".."] = "http://a/b/",
      ["../"] = "http://a/b/",
      ["../g"] = "http://a/b/g",
      ["../.."] = "http://a/",
      ["../../g"] = "http://a/g",
      ["../../../g"] = "http://a/g",
      ["../../../../g"] = "http://a/g",
      ["/./g"] = "http://a/g",
      ["/../g"] = "http://a/g",
      ["g."] = "http://a/b/c/g.",
      [".g"] = "http://a/b/c/.g",
      ["g.."] = "http://a/b/c/g..",
      ["..g"] = "http://a/b/c/..g",
      ["./../g"] = "http://a/b/g",
      ["./g/."] = "http://a/b/c/g/",
      ["g/./h"] = "http://a/b/c/g/h",
      ["g/../h"] = "http://a/b/c/h",
      ["g;x=1/./y"] = "http://a/b/c/g;x=1/y",
      ["g;x=1/../y"] = "http://a/b/c/y",
      ["g?y/./x"] = "http://a/b/c/g?y/./x",
      ["g?y/../x"] = "http://a/b/c/g?y/../x",
      ["a//b"] = "http://a/b/c/a//b",
    } do
      assert.equal(expected, url.resolve(base, reference), reference)
    end
  end)
end)
