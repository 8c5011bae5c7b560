-- wsapi.gzip: responses that are compressed.

local http = require "support.http"
local wsapi = require "moonlet.wsapi"
local zlib = require "moonlet.zlib"

local get, one, iterator = http.get, http.one, http.iterator

local TEXT = ("some text that repeats itself. "):rep(100)
local HTML = { ["Content-Type"] = "text/html" }
local GZIP = "Accept-Encoding: gzip"

describe("moonlet.wsapi.gzip", function()
  local function serve(status, headers, make)
    return http.serve(wsapi.gzip(function()
      return status, headers, type(make) == "function" and make() or make
    end))
  end

  local function unpacked(answer)
    return zlib.inflate():write(answer.body)
  end

  it("compresses a string, and says so", function()
    local it <close> = serve(200, { ["Content-Type"] = "text/html", ETag = '"x"', Vary = "Cookie",
                                    ["content-length"] = #TEXT }, TEXT)
    local answer = one(it, get("/", GZIP))
    assert.equal(TEXT, unpacked(answer))
    assert.is_true(#answer.body < 200)
    assert.same({ "gzip", tostring(#answer.body), 'W/"x"', "Cookie, Accept-Encoding" },
                { answer.headers["content-encoding"], answer.headers["content-length"],
                  answer.headers.etag, answer.headers.vary })
  end)

  it("compresses lists, and headers in an order", function()
    local it <close> = serve(200, { { "Content-Type", "application/json" } }, { TEXT, TEXT })
    assert.equal(TEXT .. TEXT, unpacked(one(it, get("/", GZIP))))
  end)

  it("compresses the pieces of an iterator, each on its way", function()
    local it <close> = serve(200, HTML, function() return iterator("one", "", "two", TEXT) end)
    local client <close> = http.connect(it)
    local text = http.receive((assert(client:send(get("/", GZIP))) and client))
    local answer = http.parse(text)[1]
    assert.equal("onetwo" .. TEXT, unpacked(answer))
    local inflater, seen = zlib.inflate(), {}
    for size, rest in text:gmatch("\r\n(%x+)\r\n()") do
      local piece = text:sub(rest, rest + tonumber(size, 16) - 1)
      seen[#seen + 1] = #piece > 0 and inflater:write(piece) or nil
    end
    assert.same({ "one", "two" }, { seen[1], seen[2] })
  end)

  it("keeps trailers, and closes what it was given", function()
    local closed = 0
    local it <close> = serve(200, HTML, function()
      local done
      return setmetatable({ close = function() closed = closed + 1 end }, { __call = function()
        if done then
          return nil, { Sum = "1" }
        end
        done = true
        return "text"
      end })
    end)
    local answer = one(it, get("/", GZIP))
    assert.same({ "text", "1", 1 }, { unpacked(answer), answer.trailers.sum, closed })
  end)

  it("leaves alone what the client does not take", function()
    local it <close> = serve(200, HTML, TEXT)
    for _, value in ipairs { "", "br", "gzip;q=0", "*;q=0", "identity", "gzip; q=0.0, *" } do
      local answer = one(it, get("/", "Accept-Encoding: " .. value))
      assert.equal(TEXT, answer.body, value)
      assert.is_nil(answer.headers["content-encoding"])
      assert.equal("Accept-Encoding", answer.headers.vary) -- it depends on that
    end
    for _, value in ipairs { "br, GZIP", "x-gzip", "*", "gzip;q=0.1", "br;q=1,gzip ; q=0.5" } do
      assert.equal("gzip", one(it, get("/", "Accept-Encoding: " .. value))
                           .headers["content-encoding"], value)
    end
    assert.is_nil(one(it, get("/")).headers["content-encoding"])
  end)

  it("leaves alone what is short, no text, a part, compressed already, or not to be changed",
     function()
       for _, case in ipairs {
         { 200, HTML, "short" }, { 200, { ["Content-Type"] = "image/png" }, TEXT },
         { 200, {}, TEXT }, { 206, HTML, TEXT }, { 204, HTML }, { 200, HTML },
         { 200, { ["Content-Type"] = "text/html", ["Content-Encoding"] = "br" }, TEXT },
         { 200, { ["Content-Type"] = "text/html", ["Cache-Control"] = "no-transform" }, TEXT },
       } do
         local it <close> = serve(table.unpack(case, 1, 3))
         local answer = one(it, get("/", GZIP))
         assert.equal(case[3] or "", answer.body)
         assert.not_equal("gzip", answer.headers["content-encoding"])
       end
     end)

  it("answers HEAD as it would GET", function()
    local it <close> = serve(200, HTML, TEXT)
    local whole = one(it, get("/", GZIP))
    local head = one(it, http.text("HEAD / HTTP/1.1", { GZIP }), true)
    assert.same({ "gzip", whole.headers["content-length"], "" },
                { head.headers["content-encoding"], head.headers["content-length"], head.body })
  end)

  it("does not change the application's headers, and takes any application", function()
    local headers = { ["Content-Type"] = "text/html" }
    local it <close> = http.serve(wsapi.gzip { run = function() return 200, headers, TEXT end })
    for _ = 1, 2 do
      assert.equal(TEXT, unpacked(one(it, get("/", GZIP))))
    end
    assert.same({ ["Content-Type"] = "text/html" }, headers)
    assert.error_matches(function() wsapi.gzip(1) end, "bad argument #1 to 'gzip'")
  end)

  it("goes along with static files", function()
    local it <close> = http.serve(wsapi.gzip(wsapi.static("spec")))
    local plain = one(it, get("/wsapi_gzip_spec.lua"))
    local packed = one(it, get("/wsapi_gzip_spec.lua", GZIP))
    assert.equal(plain.body, unpacked(packed))
    assert.equal(304, one(it, get("/wsapi_gzip_spec.lua", GZIP,
                                  "If-None-Match: " .. packed.headers.etag)).status)
    assert.equal(206, one(it, get("/wsapi_gzip_spec.lua", GZIP, "Range: bytes=0-3")).status)
  end)
end)
