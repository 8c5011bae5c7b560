-- The chat's page, used by two people in a real browser. Leaves pictures in BUILD/browser:
-- chat.png shows the page as it was in the end.

package.path = "tests/browser/?.lua;scripts/examples/chat/?.lua;" .. package.path

local app = require "app"
local databases = require "support.databases"
local lfs = require "lfs"
local shared_chat = require "support.chat"
local support = require "support"
local webdriver = require "webdriver"
local wsapi = require "moonlet.wsapi"

local PICTURES = assert(support.interpreter:match("^(.*)/[^/]*$")) .. "/browser/"

-- JavaScript: whether an element of that kind shows that text.
local SHOWS = "[...document.querySelectorAll(arguments[0])]" ..
              ".some((element) => element.innerText === arguments[1])"

describe("the chat's page", function()
  local browser, server, chat, base, alice, bob

  local function start(port)
    chat = app.new { rooms = { "lobby", "music", "lua" }, folder = "scripts/examples/chat/page/" }
    server = wsapi.WSAPIServer({ "127.0.0.1", port }, chat, { log = false })
    assert(server:start())
    base = ("http://127.0.0.1:%d/"):format(server.address[2])
  end

  -- For this spec.
  local function serve()
    start(0)
    finally(function()
      alice:open("about:blank")
      bob:open("about:blank")
      server:stop(0)
    end)
  end

  local function knock(window, name, query)
    window:open(base .. (query or ""))
    window:await("!document.getElementById('door').hidden")
    window:type("#name", name .. "\n")
  end

  local function enter(window, name, query)
    knock(window, name, query)
    window:await(SHOWS, "#line", query and "connected" or "live")
  end

  local function say(window, text)
    window:type("#text", text .. "\n")
  end

  local function sees(window, text)
    window:await(SHOWS, ".message .text", text)
  end

  -- Somebody who needs no browser.
  local function tell(room, name, text)
    assert(chat.chat:join(room, name))
    assert(chat.chat:post(room, assert(chat.chat:user(name)), text))
  end

  setup(function()
    lfs.mkdir(PICTURES)
    browser = webdriver.open()
    alice, bob = browser:window(), browser:window()
    bob:open("about:blank")
  end)

  teardown(function()
    browser:close()
    support.eventually(function()
      return not browser:process()
    end)
  end)

  for how, query in pairs { ["WebSockets"] = false, ["long polling"] = "?poll" } do
    describe("with " .. how, function()
      it("brings what one says to both", function()
        serve()
        enter(alice, "alice", query)
        enter(bob, "bob", query)
        alice:await(SHOWS, ".people .person", "B\nbob")
        say(alice, "Grüß dich, Bob 🌙")
        sees(alice, "Grüß dich, Bob 🌙")
        sees(bob, "Grüß dich, Bob 🌙")
        say(bob, "Hello, Alice!")
        sees(alice, "Hello, Alice!")
        sees(bob, "Hello, Alice!")
        assert.equal(2, bob:run("return document.querySelectorAll('.message').length"))
        assert.equal(1, bob:run("return document.querySelectorAll('.message.own').length"))
      end)

      it("shows who comes and goes", function()
        serve()
        enter(alice, "alice", query)
        enter(bob, "bob", query)
        alice:await(SHOWS, ".news", "bob came in")
        bob:click("#leave")
        bob:await("!document.getElementById('door').hidden")
        alice:await(SHOWS, ".news", "bob left")
        alice:await(SHOWS, "#count", "only you")
      end)

      it("outlives the server", function()
        serve()
        enter(alice, "alice", query)
        enter(bob, "bob", query)
        say(alice, "before")
        sees(bob, "before")
        server:stop(0)
        alice:await(SHOWS, "#line", "reconnecting")
        say(alice, "lost")
        alice:await("document.getElementById('text').value === 'lost'")
        start(server.address[2])
        tell("lobby", "carol", "meanwhile")
        sees(alice, "meanwhile")
        bob:await("document.querySelector('.line.on') !== null")
        alice:await("document.querySelector('.line.on') !== null")
        say(bob, "after")
        sees(alice, "after")
        assert.equal(3, alice:run("return document.querySelectorAll('.message').length"))
      end)
    end)
  end

  for how, query in pairs { ["WebSockets"] = "", ["long polling"] = "?poll" } do
    it("does not care which process it speaks with, by " .. how, function()
      local redis <close> = databases.redis()
      local shared <close> = shared_chat.serve("127.0.0.1:" .. redis.port)
      base = "http://" .. shared.place .. "/"
      finally(function()
        alice:open("about:blank")
        bob:open("about:blank")
      end)
      enter(alice, "alice", query ~= "" and query)
      enter(bob, "bob", query ~= "" and query)
      for i = 1, 4 do
        say(alice, "from alice " .. i)
        say(bob, "from bob " .. i)
        sees(bob, "from alice " .. i)
        sees(alice, "from bob " .. i)
      end
      for _, pid in ipairs(shared:workers()) do
        support.kill("KILL", pid)
        bob:await("document.querySelector('.line.on') !== null")
      end
      shared:tell("lobby", "carol", "Still+there?")
      sees(alice, "Still there?")
      sees(bob, "Still there?")
      assert.equal(9, alice:run("return document.querySelectorAll('.message').length"))
    end)
  end

  it("shows markup as it was written", function()
    serve()
    local markup = [[<img src=x onerror="document.title='run'"><b>&amp;</b><script>x</script>]]
    enter(alice, "alice")
    enter(bob, "<i>bob")
    say(bob, markup)
    sees(alice, markup)
    alice:await(SHOWS, ".from", "<i>bob")
    assert.equal(0, alice:run("return document.querySelectorAll('#log :is(img, script)').length"))
    assert.equal("#lobby · Moonlet chat", alice:run("return document.title"))
  end)

  it("does not let two have the same name", function()
    serve()
    enter(alice, "alice")
    knock(bob, "alice")
    bob:await(SHOWS, "#refusal", "Somebody has this name already.")
    alice:click("#leave")
    alice:await("!document.getElementById('door').hidden")
    enter(bob, "alice")
  end)

  it("knows its user after a reload", function()
    serve()
    enter(alice, "alice")
    say(alice, "I am here")
    sees(alice, "I am here")
    alice:run("location.reload()")
    sees(alice, "I am here")
    alice:await(SHOWS, "#line", "live")
  end)

  it("counts what was said in other rooms", function()
    serve()
    enter(alice, "alice")
    alice:click(".rooms li:nth-child(2) button")
    alice:await(SHOWS, "#title", "music")
    tell("lobby", "carol", "one")
    tell("lobby", "carol", "two")
    alice:await(SHOWS, ".unread", "2")
    alice:click(".rooms li:nth-child(1) button")
    sees(alice, "two")
    assert.equal(0, alice:run("return document.querySelectorAll('.unread').length"))
  end)

  -- ---- pictures ----

  local function converse()
    tell("lobby", "Carol", "Good evening! Is the new build up already?")
    tell("lobby", "Dmitri", "Since noon. Ten thousand are connected, and the fan is silent.")
    tell("lobby", "Dmitri", "One greenlet for each of them, by the way.")
    tell("lobby", "Carol", "And how do they wait? I have seen no callbacks anywhere.")
    say(alice, "They just call get() on a queue, and it returns when there is something.")
    sees(bob, "They just call get() on a queue, and it returns when there is something.")
    say(bob, "local message = user.events:get()")
    say(bob, "That is all of it.")
    sees(alice, "That is all of it.")
    tell("lobby", "Carol", "I like that.")
    sees(alice, "I like that.")
    sees(bob, "I like that.")
  end

  local function set_view(window, width, height, scheme)
    window:cdp("Emulation.setDeviceMetricsOverride", {
      width = width, height = height, deviceScaleFactor = 1, mobile = false,
    })
    window:cdp("Emulation.setEmulatedMedia", {
      features = { { name = "prefers-color-scheme", value = scheme } },
    })
  end

  it("fits a desk and a phone, in light and dark", function()
    serve()
    set_view(alice, 1180, 800, "light")
    set_view(bob, 390, 780, "dark")
    alice:open(base)
    alice:screenshot(PICTURES .. "door.png")
    enter(alice, "alice")
    enter(bob, "bob")
    converse()
    for name, window in pairs { desk = alice, phone = bob } do
      for _, scheme in ipairs { "light", "dark" } do
        local width = window == alice and 1180 or 390
        set_view(window, width, window == alice and 800 or 780, scheme)
        window:await("document.documentElement.scrollWidth === arguments[0]", width)
        window:await("(log => log.scrollHeight - log.scrollTop - log.clientHeight < 2)" ..
                     "(document.getElementById('log'))")
        window:screenshot(("%s%s-%s.png"):format(PICTURES, name, scheme))
      end
    end
    alice:screenshot(PICTURES .. "chat.png")
  end)
end)
