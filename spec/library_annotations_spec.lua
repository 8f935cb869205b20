-- lua/library: the annotations for LuaLS name the functions of the modules, with the same parameters.

local pgq = require "pgq"
local testing = require "pgq.testing"

local SOURCE = assert(os.getenv "PGQ_SOURCE")

local function read(path)
  local file = assert(io.open(SOURCE .. "/" .. path))
  local text = file:read "*a"
  file:close()
  return text
end

-- The functions of a file of annotations, by "Class.name": their parameters as a text.
local function annotated(path)
  local found = {}
  for class, colon, name, parameters in read(path):gmatch "\nfunction ([%w_]+)([.:])([%w_]+)%((.-)%) end" do
    found[class .. "." .. name] = (colon == ":" and "self, " or "") .. parameters
  end
  return found
end

-- The parameters of a function; nil for a C function, whose parameters are not known.
local function parameters_of(fn)
  local info = debug.getinfo(fn, "u")
  if debug.getinfo(fn, "S").what == "C" then
    return nil
  end
  local names = {}
  for i = 1, info.nparams do
    names[i] = debug.getlocal(fn, i)
  end
  if info.isvararg then
    names[#names + 1] = "..."
  end
  return table.concat(names, ", ")
end

-- The public functions of tables, by "Class.name". In a plain script some are stand-ins, whose parameters are others.
local function public(classes, stand_ins)
  local found = {}
  for class, functions in pairs(classes) do
    for name, value in pairs(functions) do
      if type(value) == "function" and name:sub(1, 1) ~= "_" then
        found[class .. "." .. name] = not stand_ins[name] and parameters_of(value) or "?"
      end
    end
  end
  return found
end

-- Raises an error that names every difference.
local function compare(path, classes, host_functions)
  local written, real = annotated(path), public(classes, host_functions or {})
  local problems = {}
  for name, parameters in pairs(written) do
    parameters = parameters:gsub("^self, $", "self")
    if not real[name] then
      problems[#problems + 1] = name .. " does not exist"
    elseif real[name] ~= "?" and real[name] ~= parameters then
      problems[#problems + 1] = ("%s has (%s), not (%s)"):format(name, real[name], parameters)
    end
  end
  for name in pairs(real) do
    if not written[name] then
      problems[#problems + 1] = name .. " is missing"
    end
  end
  table.sort(problems)
  assert.same({}, problems)
end

-- The functions that only a worker has, as pgq.handlers makes them for a host.
local function worker_functions()
  return require "pgq.running.handlers"({ stop = function() end })
end

-- The tables of methods are upvalues of the functions that make the objects.
local function class_of(fn, name)
  for i = 1, debug.getinfo(fn, "u").nups do
    local upvalue, value = debug.getupvalue(fn, i)
    if upvalue == name then
      return value
    end
  end
  error("there is no upvalue " .. name)
end

local connection = require "pgq.database.connection"
local Connection = class_of(connection.open, "Connection")

describe("the annotations for LuaLS", function()
  it("are those of pgq, its connections and its transactions", function()
    local run_transaction = class_of(connection.run, "run_transaction")
    compare("lua/library/pgq.lua",
      { pgq = pgq, Connection = Connection, Transaction = class_of(run_transaction, "Transaction") },
      { configure = true, register_queue = true, stop = true })
  end)

  it("are those of the functions that only a worker has", function()
    local written = annotated "lua/library/pgq.lua"
    for name, fn in pairs(worker_functions()) do
      assert.equal(parameters_of(fn), written["pgq." .. name], name)
    end
  end)

  it("are those of pgq.testing", function()
    compare("lua/library/pgq/testing.lua", { testing = testing, Worker = class_of(testing.load, "Worker") })
  end)

  it("describe every field of pgq that is not a function", function()
    local text = read "lua/library/pgq.lua"
    for name, value in pairs(pgq) do
      if type(value) ~= "function" then
        assert.is_truthy(text:find("\n---@field " .. name .. " ", 1, true), name)
      end
    end
  end)

  it("are valid Lua", function()
    for _, path in ipairs { "lua/library/pgq.lua", "lua/library/pgq/testing.lua" } do
      assert(loadfile(SOURCE .. "/" .. path))
    end
  end)
end)
