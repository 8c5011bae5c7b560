-- Usage: generate.lua FOLDER, from the top of the tree.
--
-- Reads the documentation comments of vm/ and stdlib/, and writes FOLDER/manual.md and
-- FOLDER/library/moonlet/*.lua, annotations for lua-language-server. If a comment breaks the
-- convention (see grammar.lua), says where and writes nothing.

package.path = arg[0]:gsub("doc/generate%.lua$", "?.lua") .. ";" .. package.path

local annotations = require "doc.annotations"
local manual = require "doc.manual"
local model = require "doc.model"

local folder = assert(arg[1], "usage: generate.lua FOLDER")

local function write(path, text)
  assert(os.execute(("mkdir -p '%s'"):format(path:match("(.*)/"))))
  local file = assert(io.open(path, "w"))
  assert(file:write(text))
  assert(file:close())
end

local documentation = model.read(model.sources())
if #documentation.errors > 0 then
  io.stderr:write(table.concat(documentation.errors, "\n"), "\n",
                  "tests/doc/grammar.lua tells how comments are written\n")
  os.exit(1)
end
for _, module in ipairs(documentation.list) do
  write(folder .. "/library/" .. annotations.path(module), annotations.write(module))
end
write(folder .. "/manual.md", manual.write(documentation))
