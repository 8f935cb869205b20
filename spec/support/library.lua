-- The installed C library, and programs of the specs that are built with it in the same way as a user's programs.

local uv = require "luv"
local process = require "spec.support.process"

local Library = {}
Library.__index = Library

local function sh(command)
  return (process.check({ "sh", "-c", command, timeout = 60 }):gsub("%s+$", ""))
end

-- Library.install(): installs the build into a new folder. Fields: prefix; libdir, where libpgq is; flags, for the
-- compiler.
function Library.install()
  local prefix = assert(uv.fs_mkdtemp("/tmp/pgq-spec-install-XXXXXX"))
  process.check { "cmake", "--install", os.getenv "PGQ_BUILD", "--prefix", prefix, timeout = 60 }
  local libdir = sh(("dirname $(dirname $(find %s -name pgq.pc))"):format(prefix))
  local flags = "-Wall -Wextra -Werror -Wpedantic"
  if os.getenv "PGQ_ASAN_LIBRARY" then
    flags = flags .. " -fsanitize=address,undefined"
  end
  return setmetatable({ prefix = prefix, libdir = libdir, flags = flags }, Library)
end

-- Compiles a source file as C (prefix/NAME-c) and as C++ (prefix/NAME-c++).
function Library:compile(source, name)
  local out = self.prefix .. "/" .. name
  local pkgs = ("$(PKG_CONFIG_PATH=%s/pkgconfig pkg-config --cflags --libs pgq) -Wl,-rpath,%s"):format(self.libdir,
    self.libdir)
  sh(("gcc -std=c11 %s %s -o %s-c %s"):format(self.flags, source, out, pkgs))
  sh(("g++ -std=c++11 %s -x c++ %s -o %s-c++ %s"):format(self.flags, source, out, pkgs))
end

-- Compiles a source file as C with libpgq.a in it (prefix/NAME-static).
function Library:compile_statically(source, name)
  sh(("gcc -std=c11 %s %s -o %s/%s-static -I%s/include %s/libpgq.a $(pkg-config --cflags --libs libpq)")
    :format(self.flags, source, self.prefix, name, self.prefix, self.libdir))
end

-- The names that libpgq.so exports, sorted, one on each line.
function Library:exported_names()
  return sh(("nm -D --defined-only %s/libpgq.so | awk '$3 !~ /^_/ { print $3 }' | sort"):format(self.libdir))
end

function Library:remove()
  process.check { "rm", "-rf", self.prefix }
end

return Library
