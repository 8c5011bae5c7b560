-- A browser that is driven from outside, by the WebDriver protocol: headless Chromium with windows
-- as users have them.

local http = require "moonlet.http"
local json = require "dkjson"
local lfs = require "lfs"
local mime = require "mime"
local moonlet = require "moonlet"
local subprocess = require "moonlet.subprocess"

local START = 30 -- seconds for the driver to start, and for each of its answers
local PATIENCE = 15 -- seconds for a condition
local ELEMENT = "element-6066-11e4-a52e-4f735466cecf" -- the protocol's name for an element

local ARGUMENTS = {
  "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
  "--disable-background-networking", "--disable-component-update", "--disable-sync",
  "--disable-dev-shm-usage", "--hide-scrollbars", "--proxy-server=direct://",
  "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1",
}

-- ---- windows ----

local Window = {}
Window.__index = Window

function Window:_command(method, path, body)
  local browser = self.browser
  if browser.focus ~= self then
    browser:_command("POST", "/window", { handle = self.handle })
    browser.focus = self
  end
  return browser:_command(method, path, body)
end

function Window:open(url)
  self:_command("POST", "/url", { url = url })
end

--- Runs JavaScript, the body of a function; what it returns.
function Window:run(code, ...)
  return self:_command("POST", "/execute/sync", {
    script = code, args = setmetatable({ ... }, { __jsontype = "array" }) })
end

--- A command of Chromium's own protocol.
function Window:cdp(command, params)
  return self:_command("POST", "/goog/cdp/execute", {
    cmd = command, params = setmetatable(params, { __jsontype = "object" }) })
end

--- Waits until JavaScript, an expression, is true; an error that says what the page shows if it
--- does not become so.
function Window:await(expression, ...)
  local limit = moonlet.now() + PATIENCE
  repeat
    local value = self:run("return " .. expression, ...)
    if value then
      return value
    end
    moonlet.sleep(0.02)
  until moonlet.now() > limit
  error(("in vain: %s\n%s"):format(expression, self:run("return document.body.innerText")), 2)
end

function Window:_element(selector)
  return self:_command("POST", "/element", { using = "css selector", value = selector })[ELEMENT]
end

function Window:click(selector)
  self:_command("POST", ("/element/%s/click"):format(self:_element(selector)), {})
end

--- Types text as a user does; "\n" is the key Enter.
function Window:type(selector, text)
  text = text:gsub("\n", utf8.char(0xE007))
  self:_command("POST", ("/element/%s/value"):format(self:_element(selector)), { text = text })
end

--- A picture of the window, into a file.
function Window:screenshot(path)
  local file <close> = assert(io.open(path, "wb"))
  file:write((mime.unb64(self:_command("GET", "/screenshot"))))
end

-- ---- the browser ----

local Browser = {}
Browser.__index = Browser

local function send(browser, method, path, body)
  local response = assert(browser.client:request {
    url = browser.url .. path,
    method = method,
    headers = { ["Content-Type"] = "application/json" },
    body = method == "POST" and json.encode(setmetatable(body, { __jsontype = "object" })) or nil,
    timeout = START,
    proxy = false,
  })
  return response.status, json.decode(assert(response:body())).value
end

function Browser:_command(method, path, body)
  local status, value = send(self, method, self.session .. path, body)
  if status ~= 200 then
    error(("WebDriver: %s: %s"):format(value.error, value.message), 3)
  end
  return value
end

--- Another window, which is seen as long as it is there.
function Browser:window()
  if not self.focus then
    self.focus = setmetatable({ browser = self, handle = self:_command("GET", "/window") }, Window)
    return self.focus
  end
  local handle = self:_command("POST", "/window/new", { type = "window" }).handle
  return setmetatable({ browser = self, handle = handle }, Window)
end

--- The command of a process of it that runs, if one does.
function Browser:process()
  for pid in lfs.dir("/proc") do
    local file <close> = io.open(("/proc/%s/cmdline"):format(pid))
    local command = file and file:read("a") or ""
    if command:find(self.folder, 1, true) then
      return command
    end
  end
end

--- Ends all that was started.
function Browser:close()
  if self.session then
    pcall(send, self, "DELETE", self.session)
    self.session = nil
  end
  self.client:close()
  if self.driver then
    self.driver:terminate()
    self.driver:close()
  end
  subprocess.call { args = { "rm", "-rf", self.folder } }
end

Browser.__close = Browser.close

local function start_driver(browser)
  browser.driver = assert(subprocess.Popen {
    args = { "chromedriver", "--port=0" },
    env = { PATH = os.getenv("PATH"), HOME = browser.folder, TMPDIR = browser.folder },
    stdin = subprocess.DEVNULL, stdout = subprocess.PIPE, stderr = subprocess.DEVNULL,
  })
  local port
  repeat
    local line = assert(browser.driver.stdout:read("l"), "chromedriver does not start")
    port = line:match("successfully on port (%d+)")
  until port
  browser.url = "http://127.0.0.1:" .. port
end

local function start_session(browser)
  local arguments = table.move(ARGUMENTS, 1, #ARGUMENTS, 1, {})
  table.insert(arguments, "--user-data-dir=" .. browser.folder .. "/profile")
  local status, value = send(browser, "POST", "/session", {
    capabilities = {
      alwaysMatch = { browserName = "chrome", ["goog:chromeOptions"] = { args = arguments } },
    },
  })
  if status ~= 200 then
    error("no browser: " .. value.message, 0)
  end
  browser.session = "/session/" .. value.sessionId
end

--- Starts a browser that remembers nothing and finds no host but 127.0.0.1. As a `<close>` variable
--- it is closed.
local function open()
  local folder = subprocess.check_output { args = { "mktemp", "-d" } }
  local browser = setmetatable({ folder = folder:match("%S+"), client = http.Client() }, Browser)
  local limit <close> = moonlet.Timeout.start_new(START)
  local ok, problem = pcall(function()
    start_driver(browser)
    start_session(browser)
  end)
  if not ok then
    limit:cancel()
    browser:close()
    error(problem, 0)
  end
  return browser
end

return { open = open }
