std = "luajit"
max_line_length = 120
files["spec/*_spec.lua"] = { std = "luajit+busted", max_line_length = 160 }
files["spec/support/helper.lua"].std = "luajit+busted"
-- Annotations: functions without bodies.
files["lua/library"] = { ignore = { "212", "241" } }
