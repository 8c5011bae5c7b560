-- The documentation in the sources against the live modules, and what is generated from it.

package.path = "tests/?.lua;" .. package.path

local annotations = require "doc.annotations"
local grammar = require "doc.grammar"
local manual = require "doc.manual"
local model = require "doc.model"

local moonlet = require "moonlet"

-- Parts of other modules; so is every module in a folder that has no documentation.
local INTERNAL = { ["moonlet.group_map"] = true, ["moonlet.nursery"] = true,
                   ["moonlet.workers"] = true }

-- Objects of the classes that cannot be called without arguments or are no field of a module;
-- and the class, where it is not the object's own.
local SAMPLES = {
  ["moonlet.Greenlet"] = moonlet.getcurrent,
  ["moonlet.actor.Actor"] = function()
    local which <close> = require("moonlet.actor").spawn(moonlet.sleep)
    return which
  end,
  ["moonlet.actor.Call"] = function()
    local actor = require "moonlet.actor"
    local which <close> = actor.spawn(function(self)
      local _, call = self:receive()
      call:reply(call)
    end)
    return which:call("x")
  end,
  ["moonlet.actor.Connection"] = function()
    local connection <close> = require("moonlet.actor").connect("tcp://127.0.0.1:1")
    return connection
  end,
  ["moonlet.actor.Down"] = function()
    local actor = require "moonlet.actor"
    return actor.Down("actor", "reason")
  end,
  ["moonlet.actor.Listener"] = function()
    local listener <close> = require("moonlet.actor").listen("tcp://127.0.0.1:*")
    return listener
  end,
  ["moonlet.actor.Remote"] = function()
    local connection <close> = require("moonlet.actor").connect("tcp://127.0.0.1:1")
    return connection:actor("x")
  end,
  ["moonlet.GreenletExit"] = function()
    return moonlet.GreenletExit("text")
  end,
  ["moonlet.LoopExit"] = function()
    return moonlet.LoopExit("text")
  end,
  ["moonlet.Stats"] = moonlet.stats,
  ["moonlet.SignalHandle"] = function()
    local handle <close> = moonlet.signal("SIGUSR2", print)
    return handle
  end,
  ["moonlet.class.Object"] = function()
    return require("moonlet.class"):extend()()
  end,
  ["moonlet.backdoor.BackdoorServer"] = function()
    return require("moonlet.backdoor").BackdoorServer(0)
  end,
  ["moonlet.http.Response"] = function()
    local Response = require "moonlet.http.response"
    local stream <close> = require("moonlet.socket").socketpair()
    local connection = require("moonlet.http.connection").new(stream)
    return Response({ carrier = connection }, {}, "http://host/"), Response
  end,
  ["moonlet.lock.Guard"] = function()
    return require("moonlet.lock").Lock():hold()
  end,
  ["moonlet.lock.lock"] = function()
    local RLock = require("moonlet.lock").RLock
    return RLock(), RLock.super
  end,
  ["moonlet.llhttp.Parser"] = function()
    return require("moonlet.llhttp").new("request")
  end,
  ["moonlet.nghttp2.Session"] = function()
    return require("moonlet.nghttp2").new("client")
  end,
  ["moonlet.os.File"] = function()
    local os, File = require "moonlet.os", require("moonlet.os").File
    return assert(os.open("/dev/null")), File
  end,
  ["moonlet.subprocess.Popen"] = function()
    return require("moonlet.subprocess").Popen { args = { "true" } }
  end,
  ["moonlet.pool.Nursery"] = function()
    return require("moonlet.pool").nursery(function(nursery)
      return nursery
    end)
  end,
  ["moonlet.wsapi.Input"] = function()
    return require("moonlet.wsapi.input").EMPTY
  end,
  ["moonlet.wsapi.WSAPIServer"] = function()
    return require("moonlet.wsapi").WSAPIServer(0, print)
  end,
  ["moonlet.pool.Pool"] = function()
    return require("moonlet.pool").Pool(1)
  end,
  ["moonlet.server.BaseServer"] = function()
    return require("moonlet.server").BaseServer(0, print)
  end,
  ["moonlet.server.DatagramServer"] = function()
    return require("moonlet.server").DatagramServer(0, print)
  end,
  ["moonlet.server.StreamServer"] = function()
    return require("moonlet.server").StreamServer(0, print)
  end,
  ["moonlet.processpool.Pool"] = function()
    return require("moonlet.processpool").Pool(1)
  end,
  ["moonlet.threadpool.ThreadPool"] = function()
    return require("moonlet.threadpool").ThreadPool(1)
  end,
  ["moonlet.threadpool.Workers"] = function()
    local ThreadPool = require("moonlet.threadpool").ThreadPool
    return ThreadPool(1), ThreadPool.super
  end,
  ["moonlet.ssl.Certificate"] = function()
    return {}, debug.getregistry()["moonlet.ssl.Certificate"]
  end,
  ["moonlet.ssl.Connection"] = function()
    local sock, other <close> = require("moonlet.socket").socketpair()
    local conn <close> = require("moonlet.ssl").wrap(sock, { mode = "client" })
    return conn, other and getmetatable(conn)
  end,
  ["moonlet.ssl.Context"] = function()
    return require("moonlet.ssl").newcontext { mode = "client" }
  end,
  ["moonlet.ssl.Session"] = function()
    return {}, debug.getregistry()["moonlet.ssl.Session"]
  end,
  ["moonlet.subprocess.CalledProcessError"] = function()
    return require("moonlet.subprocess").CalledProcessError(1, "false")
  end,
  ["moonlet.websocket.WebSocket"] = function()
    return (require("support.websocket").client({ protocols = { "any" } },
                                                "Sec-WebSocket-Protocol: any\r\n"))
  end,
  ["moonlet.zlib.Deflater"] = function()
    return require("moonlet.zlib").deflate()
  end,
  ["moonlet.zlib.Inflater"] = function()
    return require("moonlet.zlib").inflate()
  end,
  ["moonlet.zmq.ZContext"] = function()
    return require("moonlet.zmq").Context()
  end,
  ["moonlet.zmq.ZSocket"] = function()
    local zmq = require "moonlet.zmq"
    return zmq.Context():socket(zmq.PAIR)
  end,
}

for _, name in ipairs { "Socket", "Stream", "TCP", "UDP", "Unix", "UnixDatagram", "Secure" } do
  SAMPLES["moonlet.socket." .. name] = function()
    local class = require("moonlet.socket.core")[name]
    return class(), class
  end
end

local documentation = model.read(model.sources())

-- ---- what is documented ----

local function add_names(names, list)
  for _, entry in ipairs(list) do
    for _, signature in ipairs(entry.signatures) do
      names[signature.name] = true
    end
  end
end

local function documented_in_module(module)
  local names = {}
  add_names(names, module.functions)
  for _, field in ipairs(module.fields) do
    names[field.name] = field.optional and "perhaps" or true
  end
  for _, class in ipairs(module.classes) do
    names[class.short] = #class.constructors > 0 or nil
  end
  return names
end

-- With what it has from the classes above.
local function documented_in_class(class)
  local names = class.parent and documented_in_class(class.parent) or {}
  add_names(names, class.functions)
  for _, field in ipairs(class.fields) do
    names[field.name] = field.optional and "perhaps" or true
  end
  return names
end

-- ---- what is there ----

local function is_public(name)
  return type(name) == "string" and not name:match("^_")
end

local function is_class(value)
  return type(value) == "table" and type(value.extend) == "function"
end

local function live_modules()
  local names = {}
  for name in pairs(package.preload) do
    names[name] = name:match("^moonlet") and true or nil
  end
  for _, path in ipairs(model.sources()) do
    local name = path:match("^stdlib/(.*)%.lua$")
    if name then
      names["moonlet." .. name:gsub("/", ".")] = true
    end
  end
  return names
end

-- The class as a module has it, or nil.
local function exported(class)
  local module = require(class.module.name)
  return is_class(module) and module or module[class.short]
end

-- An object of a documented class, and the class if it has one.
local function sample(class)
  local live = exported(class)
  if not SAMPLES[class.name] then
    return assert(live, class.name .. " is in no module and has no sample")(), live
  end
  local object, own = SAMPLES[class.name]()
  return object, live or own or getmetatable(object)
end

-- The computed fields of objects made in C: the second upvalue of __index has their names.
local function computed_fields(class)
  local index = class and rawget(class, "__index")
  local _, fields = nil, nil
  if type(index) == "function" then
    _, fields = debug.getupvalue(index, 2)
  end
  return type(fields) == "table" and fields or {}
end

local function live_names(object, class)
  local names = {}
  for name in pairs(computed_fields(class)) do
    names[name] = true
  end
  for _, part in ipairs { type(object) == "table" and object or {}, class or {} } do
    for name in next, part do
      names[name] = true
    end
  end
  return names
end

-- ---- comparing ----

local function difference(names, others)
  local list = {}
  for name in pairs(names) do
    if is_public(name) and not others[name] and names[name] ~= "perhaps" then
      table.insert(list, name)
    end
  end
  table.sort(list)
  return table.concat(list, ", ")
end

local function each_class(visit)
  for _, module in ipairs(documentation.list) do
    for _, class in ipairs(module.classes) do
      visit(class)
    end
  end
end

describe("the documentation in the sources", function()
  it("keeps to its convention everywhere", function()
    assert.equal("", table.concat(documentation.errors, "\n"))
  end)

  it("covers all modules", function()
    for name in pairs(live_modules()) do
      assert.truthy(documentation.modules[name] or INTERNAL[name] or name:match("%..+%."),
                    "undocumented module: " .. name)
    end
    for name in pairs(documentation.modules) do
      assert.truthy(require(name), "no such module: " .. name)
    end
  end)

  it("covers what modules hold, and nothing else", function()
    for _, module in ipairs(documentation.list) do
      local live = require(module.name)
      if not is_class(live) then
        local names = documented_in_module(module)
        assert.equal("", difference(live, names), "undocumented in " .. module.name)
        assert.equal("", difference(names, live), "not to be found in " .. module.name)
      end
    end
  end)

  it("covers the methods and fields of classes, and nothing else", function()
    each_class(function(class)
      local object, live = sample(class)
      local names = documented_in_class(class)
      assert.equal("", difference(live_names(object, live), names), "undocumented: " .. class.name)
      local computed = computed_fields(live)
      for name, certain in pairs(names) do
        local found = certain == "perhaps" or computed[name] or object[name] ~= nil or
                        live and live[name] ~= nil
        assert.truthy(found, ("not to be found in %s: %s"):format(class.name, name))
      end
    end)
  end)

  it("tells of each class in a module how to call it, and of no other", function()
    each_class(function(class)
      assert.equal(exported(class) ~= nil, #class.constructors > 0, class.name)
    end)
  end)
end)

describe("the convention", function()
  local function parse(...)
    return grammar.parse { file = "some.c", line = 7, language = "C", lines = { ... } }
  end

  it("lets signatures go on after a comma at the end of a line", function()
    local entry = parse("Box:get(),", "Box:take(): gets it.")
    assert.equal(2, #entry.signatures)
    assert.same({ "gets it." }, entry.text)
  end)

  it("is understood with all its tags", function()
    local entry = parse("Box:get([timeout]), Box:take([timeout]): waits for it.", "More.",
                        "@param timeout? number|Timeout  seconds,", "  with fractions",
                        "@return any item # what was in", "@raise what others raise",
                        "Source: a box.", "Differs: none | one")
    assert.same({ "waits for it.", "More." }, entry.text)
    assert.same({ "get", "take" }, { entry.signatures[1].name, entry.signatures[2].name })
    assert.same({ { name = "timeout", optional = true, type = "number|Timeout",
                    text = "seconds, with fractions" } }, entry.params)
    assert.same({ { type = "any", name = "item", text = "what was in" } }, entry.returns)
    assert.same({ "what others raise" }, entry.raises)
    assert.equal("a box.", entry.source)
    assert.same({ { "none", "one" } }, entry.differs)
  end)

  for mistake, lines in pairs {
    ["it does not begin with a signature"] = { "waits for it." },
    ["its arguments are 'item, timeout?', its @param are 'item'"] = {
      "Box:put(item [, timeout]): puts it in.", "@param item any" },
    ["its arguments are 'item', its @param are 'item?'"] = {
      "Box:put(item): puts it in.", "@param item? any" },
    ["unknown tag '@parm'"] = { "Box:put(item): puts it in.", "@parm item any" },
    ["text below the tags: 'More.'"] = { "Box:get(): gets it.", "@return any", "More." },
    ["'#' is missing in '@return boolean true once it is in'"] = {
      "Box:get(): gets it.", "@return boolean true once it is in" },
    ["'Source:' must begin a line"] = { "Box:get(): gets it.  Source: a box." },
    ["'Differs:' has 1 parts instead of 2"] = { "Box:get(): gets it.", "Differs: in all" },
  } do
    it("refuses: " .. mistake, function()
      local ok, message = pcall(parse, table.unpack(lines))
      assert.is_false(ok)
      assert.truthy(message:find("some.c:7: ", 1, true) and message:find(mistake, 1, true), message)
    end)
  end
end)

describe("the annotations", function()
  local function run(module)
    return assert(load(annotations.write(module), "=" .. annotations.path(module), "t", {}))()
  end

  local function check_functions(made, list, owner)
    local names = {}
    add_names(names, list)
    for name in pairs(names) do
      assert.equal(is_public(name) and "function" or "nil", type(made[name]),
                   owner.name .. ", " .. name)
    end
  end

  it("are Lua that defines all functions and classes of the modules", function()
    for _, module in ipairs(documentation.list) do
      local made = run(module)
      check_functions(made, module.functions, module)
      for _, class in ipairs(module.classes) do
        if exported(class) then
          check_functions(module.returns[1] and made or made[class.short], class.functions, class)
        end
      end
    end
  end)

  it("name their classes in full", function()
    local text = annotations.write(documentation.modules["moonlet.queue"])
    assert.truthy(text:find("---@class moonlet.queue.LifoQueue: moonlet.queue.Queue\n", 1, true))
    assert.truthy(text:find("---@param timeout? number|moonlet.Timeout seconds\n", 1, true))
    assert.truthy(text:find("---@overload fun(maxsize?: integer, items?: any[]): moonlet.queue" ..
                            ".Queue\n", 1, true))
  end)
end)

describe("the manual", function()
  it("has a place for each of its links, and no place twice", function()
    local page, places = manual.write(documentation), {}
    for place in page:gmatch('<a id="([^"]*)">') do
      assert.is_nil(places[place], "twice: " .. place)
      places[place] = true
    end
    for place in page:gmatch("%]%(#([^)]*)%)") do
      assert.truthy(places[place], "a link leads nowhere: " .. place)
    end
    assert.truthy(places["moonlet.queue.Queue.put"] and places["moonlet.with_timeout"])
  end)

  it("says where Moonlet differs from gevent", function()
    local page = manual.write(documentation)
    assert.truthy(page:find("| `Queue:get([timeout])` | raises Empty | returns nil, queue.Empty |",
                            1, true))
  end)
end)
