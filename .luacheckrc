std = "lua54"
max_line_length = 100
self = false -- methods need not use it
exclude_files = { "build" }

files["spec"].std = "+busted"
