-- busted's command line, for `luajit spec/support/busted.lua …`: its own program starts under PUC Lua.
require "busted.runner" { standalone = false }
