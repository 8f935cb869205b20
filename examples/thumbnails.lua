-- Makes thumbnails with a child process: GraphicsMagick (in Debian the package graphicsmagick).
-- Run:      pgq-lua --dev examples/thumbnails.lua
-- Enqueue:  pgq-lua --dev enqueue thumbnails photo.jpg
local pgq = require "pgq"
local run = require "examples.run"

pgq.register_queue("thumbnails", function(path, job)
  -- GraphicsMagick interprets special characters in its arguments, even commands. So only plain paths are allowed.
  local base = path:match "^([%w_./-]+)%.jpe?g$"
  if not base then
    return pgq.discard("not the path of a JPEG file: " .. path)
  end

  -- The file gets its name when it is complete, so other programs never see a part of it.
  local thumbnail, part = base .. ".thumb.jpg", ("%s.%d.part"):format(base, job.id)
  local gm, problem = run("gm", {
    "convert", "jpeg:" .. path, "-auto-orient", "-thumbnail", "160x160>", "+profile", "*", "jpeg:" .. part,
  })
  if not gm then
    return nil, problem
  elseif gm.status ~= 0 then
    return nil, gm.stderr
  end
  assert(os.rename(part, thumbnail))
  print(("%s: %s"):format(path, thumbnail))
end, { concurrency = 1, timeout = "1m" }) -- one job keeps a core busy, and there is one executor per core
