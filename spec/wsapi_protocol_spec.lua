-- RFC 9112, section by section: what a message may be, and what the server makes of it.

local http = require "support.http"
local support = require "support"

-- Cases of a section: what it says, the bytes, and the statuses of the responses; then how often
-- the application was called.
local sections = {
  {
    "2.2 Message parsing",
    { "a request with CR LF everywhere", "GET / HTTP/1.1\r\nHost: a\r\n\r\n", { 200 }, 1 },
    { "an empty line before the request", "\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", { 400 }, 0 },
    { "a bare LF", "GET / HTTP/1.1\nHost: a\n\n", { 400 }, 0 },
    { "a bare CR", "GET / HTTP/1.1\r\nHost: a\rX: b\r\n\r\n", { 400 }, 0 },
    { "a bare CR in the first line", "GET /\rx HTTP/1.1\r\nHost: a\r\n\r\n", { 400 }, 0 },
    { "a space before the first field", "GET / HTTP/1.1\r\n Host: a\r\n\r\n", { 400 }, 0 },
    { "a space before the second field", "GET / HTTP/1.1\r\nHost: a\r\n X: b\r\n\r\n", { 400 }, 0 },
    { "no message at all", "\22\3\1\0\200\1\0", { 400 }, 0 },
    { "half a message", "GET / HTTP/1.1\r\nHost", {}, 0 },
  },
  {
    "2.3 HTTP version",
    { "1.1", "GET / HTTP/1.1\r\nHost: a\r\n\r\n", { 200 }, 1 },
    { "1.0", "GET / HTTP/1.0\r\n\r\n", { 200 }, 1 },
    { "2.0", "GET / HTTP/2.0\r\nHost: a\r\n\r\n", { 400 }, 0 },
    { "0.9 as a number", "GET / HTTP/0.9\r\n\r\n", { 400 }, 0 },
    { "lower case", "GET / http/1.1\r\nHost: a\r\n\r\n", { 400 }, 0 },
    { "two digits", "GET / HTTP/1.10\r\nHost: a\r\n\r\n", { 400 }, 0 },
    { "no digit", "GET / HTTP/1.\r\nHost: a\r\n\r\n", { 400 }, 0 },
    { "another protocol", "GET / HTTPS/1.1\r\nHost: a\r\n\r\n", { 400 }, 0 },
  },
  {
    "3 Request line",
    { "a method of one's own", "BREW / HTTP/1.1\r\nHost: a\r\n\r\n", { 200 }, 1 },
    { "a method that is no token", "G(T / HTTP/1.1\r\nHost: a\r\n\r\n", { 400 }, 0 },
    { "no target", "GET HTTP/1.1\r\nHost: a\r\n\r\n", { 400 }, 0 },
    { "a space in the target", "GET /a b HTTP/1.1\r\nHost: a\r\n\r\n", { 400 }, 0 },
    { "two spaces", "GET  / HTTP/1.1\r\nHost: a\r\n\r\n", { 400 }, 0 },
    { "a tab", "GET\t/ HTTP/1.1\r\nHost: a\r\n\r\n", { 400 }, 0 },
    { "a space behind it", "GET / HTTP/1.1 \r\nHost: a\r\n\r\n", { 400 }, 0 },
    { "too long a target", "GET /" .. ("a"):rep(9000) .. " HTTP/1.1\r\nHost: a\r\n\r\n",
      { 414 }, 0 },
  },
  {
    "3.2 Request target",
    { "origin-form", "GET /where?q=now HTTP/1.1\r\nHost: a\r\n\r\n", { 200 }, 1 },
    { "absolute-form", "GET http://b/path HTTP/1.1\r\nHost: a\r\n\r\n", { 200 }, 1 },
    { "authority-form", "CONNECT b:80 HTTP/1.1\r\nHost: a\r\n\r\n", { 200 }, 1 },
    { "asterisk-form", "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", { 200 }, 1 },
    { "authority-form for GET", "GET b:80 HTTP/1.1\r\nHost: a\r\n\r\n", { 400 }, 0 },
    { "asterisk-form for GET", "GET * HTTP/1.1\r\nHost: a\r\n\r\n", { 400 }, 0 },
    { "origin-form for CONNECT", "CONNECT / HTTP/1.1\r\nHost: a\r\n\r\n", { 400 }, 0 },
    { "a fragment", "GET /a#b HTTP/1.1\r\nHost: a\r\n\r\n", { 400 }, 0 },
    { "no Host", "GET / HTTP/1.1\r\n\r\n", { 400 }, 0 },
    { "two Hosts", "GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", { 400 }, 0 },
    { "an empty Host", "GET / HTTP/1.1\r\nHost:\r\n\r\n", { 200 }, 1 },
    { "what cannot be a Host", "GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", { 400 }, 0 },
  },
  {
    "5 Field syntax",
    { "white space around a value", "GET / HTTP/1.1\r\nHost: \t a \t \r\n\r\n", { 200 }, 1 },
    { "no white space", "GET / HTTP/1.1\r\nHost:a\r\n\r\n", { 200 }, 1 },
    { "a space before the colon", "GET / HTTP/1.1\r\nHost : a\r\n\r\n", { 400 }, 0 },
    { "a folded line", "GET / HTTP/1.1\r\nHost: a\r\nX: b\r\n c\r\n\r\n", { 400 }, 0 },
    { "no colon", "GET / HTTP/1.1\r\nHost: a\r\nX\r\n\r\n", { 400 }, 0 },
    { "no name", "GET / HTTP/1.1\r\nHost: a\r\n: b\r\n\r\n", { 400 }, 0 },
    { "a name that is no token", "GET / HTTP/1.1\r\nHost: a\r\nX@: b\r\n\r\n", { 400 }, 0 },
    { "NUL", "GET / HTTP/1.1\r\nHost: a\r\nX: \0\r\n\r\n", { 400 }, 0 },
    { "a control character", "GET / HTTP/1.1\r\nHost: a\r\nX: \27\r\n\r\n", { 400 }, 0 },
    { "bytes above 127", "GET / HTTP/1.1\r\nHost: a\r\nX: \200\255\r\n\r\n", { 200 }, 1 },
    { "too long a field", "GET / HTTP/1.1\r\nHost: a\r\nX: " .. ("b"):rep(9000) .. "\r\n\r\n",
      { 431 }, 0 },
  },
  {
    "6 Message body",
    { "no length is no body", "POST / HTTP/1.1\r\nHost: a\r\n\r\n", { 200 }, 1 },
    { "a length", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc", { 200 }, 1 },
    { "a body of GET", "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc", { 200 }, 1 },
    { "two lengths", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n" ..
      "Content-Length: 4\r\n\r\nabc",
      { 400 }, 0 },
    { "a list of lengths", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3, 3\r\n\r\nabc",
      { 400 }, 0 },
    { "a signed length", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +3\r\n\r\nabc",
      { 400 }, 0 },
    { "length and chunks", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n" ..
      "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", { 400 }, 0 },
    { "chunks in HTTP/1.0", "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
      { 400 }, 0 },
    { "an unknown coding", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
      { 501 }, 0 },
    { "chunked not at the end", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, gzip" ..
      "\r\n\r\n", { 501 }, 0 },
    { "a coding that only looks like it", "POST / HTTP/1.1\r\nHost: a\r\n" ..
      "Transfer-Encoding: \11chunked\r\n\r\n0\r\n\r\n", { 400 }, 0 },
  },
  {
    "7.1 Chunked",
    { "chunks", http.chunked("/", "3\r\nabc\r\n1a\r\n" .. ("x"):rep(26) .. "\r\n0\r\n\r\n"),
      { 200 }, 1 },
    { "hexadecimal digits of both cases, zeros before them",
      http.chunked("/", "0A\r\n0123456789\r\n00a\r\n0123456789\r\n000\r\n\r\n"), { 200 }, 1 },
    { "extensions", http.chunked("/", "1;a\r\nx\r\n1;a=b\r\nx\r\n1;a=\"b;c\"\r\nx\r\n0;z\r\n\r\n"),
      { 200 }, 1 },
    { "trailers", http.chunked("/", "0\r\nA: b\r\nC: d\r\n\r\n"), { 200 }, 1 },
    { "no CR LF behind the data", http.chunked("/", "3\r\nabc0\r\n\r\n"), { 400 }, 1 },
    { "more data than said", http.chunked("/", "3\r\nabcd\r\n0\r\n\r\n"), { 400 }, 1 },
    { "a negative size", http.chunked("/", "-1\r\na\r\n0\r\n\r\n"), { 400 }, 1 },
    { "no size", http.chunked("/", "\r\na\r\n0\r\n\r\n"), { 400 }, 1 },
    { "too large a size", http.chunked("/", "10000000000000000\r\n"), { 400 }, 1 },
    { "a size with white space", http.chunked("/", "1 \r\na\r\n0\r\n\r\n"), { 400 }, 1 },
    { "a bare LF", http.chunked("/", "1\na\n0\n\n"), { 400 }, 1 },
    { "a request in place of trailers", http.chunked("/", "0\r\n" .. http.get("/")), { 400 }, 1 },
    { "a trailer that says how long", http.chunked("/", "0\r\nContent-Length: 3\r\n\r\n"),
      { 400 }, 1 },
    { "a folded trailer", http.chunked("/", "0\r\nA: b\r\n c\r\n\r\n"), { 400 }, 1 },
  },
  {
    "8 Incomplete messages",
    { "a body that breaks off", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nabc",
      { 400 }, 1 },
    { "chunks that break off", http.chunked("/", "3\r\nab"), { 400 }, 1 },
    { "chunks without the last one", http.chunked("/", "3\r\nabc\r\n"), { 400 }, 1 },
    { "trailers that break off", http.chunked("/", "0\r\nA: b\r\n"), { 400 }, 1 },
  },
  {
    "9 Connection management",
    { "a connection persists", http.get("/"):rep(3), { 200, 200, 200 }, 3 },
    { "after a body", http.post("/", "abc") .. http.get("/"), { 200, 200 }, 2 },
    { "after chunks", http.chunked("/", "1\r\nx\r\n0\r\n\r\n") .. http.get("/"), { 200, 200 }, 2 },
    { "after HEAD", (http.get("/"):gsub("GET", "HEAD")) .. http.get("/"), { 200, 200 }, 2,
      { true } },
    { "not after close", http.get("/", "Connection: close") .. http.get("/"), { 200 }, 1 },
    { "not after close in a list", http.get("/", "Connection: a, close") .. http.get("/"),
      { 200 }, 1 },
    { "not in HTTP/1.0", "GET / HTTP/1.0\r\n\r\n" .. http.get("/"), { 200 }, 1 },
    { "in HTTP/1.0 if asked for", "GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n" ..
      http.get("/"), { 200, 200 }, 2 },
    { "not after a bad request", "GET / HTTP/3\r\n\r\n" .. http.get("/"), { 400 }, 0 },
    { "requests in a pipeline are answered in their order",
      http.get("/") .. http.post("/", "x") .. http.text("BREW / HTTP/1.1"), { 200, 200, 200 }, 3 },
    { "another protocol that is not known is no matter",
      http.get("/", "Connection: upgrade", "Upgrade: x") .. http.get("/"), { 200, 200 }, 2 },
  },
}

local function statuses(list)
  local found = {}
  for i, answer in ipairs(list) do
    found[i] = answer.status
    assert.is_true(answer.complete)
  end
  return found
end

describe("RFC 9112", function()
  for _, section in ipairs(sections) do
    describe(section[1] .. ":", function()
      for i = 2, #section do
        local what, bytes, expected, calls, heads = table.unpack(section[i], 1, 5)
        it(what, function()
          local count = 0
          local server <close> = http.serve(function(env)
            count = count + 1
            return 200, nil, env.input:read()
          end)
          local found = statuses(http.ask(server, bytes, heads))
          assert.same(expected, found)
          assert.equal(calls, count)
        end)
      end
    end)
  end

  it("holds wherever the bytes are cut", function()
    local server <close> = http.serve(function(env)
      return 200, nil, env.input:read()
    end)
    for _, section in ipairs(sections) do
      for i = 2, #section do
        local bytes, expected, heads = section[i][2], section[i][3], section[i][5]
        if #bytes < 200 then
          local client = http.connect(server)
          for at = 1, #bytes, 7 do
            client:send(bytes:sub(at, at + 6))
            support.turns(1)
          end
          client:shutdown("send")
          local text, _, partial = client:receive("*a")
          client:close()
          assert.same(expected, statuses(http.parse(text or partial, heads)), section[i][1])
        end
      end
    end
  end)
end)
