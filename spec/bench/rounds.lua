-- Runs a scenario: its contenders in turn, A B C A B C …, so that passing load on the machine affects all of them.

local rounds = {}

-- samples[contender][figure] is a list, one value a round.
local function add(samples, contender, values)
  local mine = samples[contender.name] or {}
  samples[contender.name] = mine
  for key, value in pairs(values) do
    mine[key] = mine[key] or {}
    table.insert(mine[key], value)
  end
end

-- Compares two lists, round by round.
local function compare(of, to, as)
  local list = {}
  for i = 1, math.min(#of, #to) do
    list[i] = as == "difference" and of[i] - to[i] or of[i] / to[i]
  end
  return list
end

local function samples_of(samples, which)
  return (samples[which[1]] or {})[which[2]] or {}
end

local function collect_figures(plan, samples)
  local figures = {}
  for _, contender in ipairs(plan.contenders) do
    for _, figure in ipairs(plan.figures) do
      local list = samples_of(samples, { contender.name, figure.key })
      if #list > 0 then
        local name = figure.name and contender.name .. ": " .. figure.name or contender.name
        figures[#figures + 1] = { name = name, unit = figure.unit, samples = list }
      end
    end
  end
  return figures
end

local function collect_comparisons(plan, samples)
  local comparisons = {}
  for _, comparison in ipairs(plan.comparisons or {}) do
    local list = comparison.to and compare(samples_of(samples, comparison.of), samples_of(samples, comparison.to),
      comparison.as) or samples_of(samples, comparison.of)
    if #list > 0 then
      comparisons[#comparisons + 1] = { name = comparison.name, unit = comparison.unit or "×", samples = list,
        goal = comparison.goal }
    end
  end
  return comparisons
end

-- rounds.play(bench, scenario): returns what report.scenario shows. A scenario has name, title and prepare(bench), and
-- that returns its plan:
--   about        what the scenario does, in a sentence or two
--   contenders   list of { name =, run = function(round) return { key = value, … } end }
--   figures      which of these values are shown: list of { key =, name =, unit = }; the name is empty for the main one
--   comparisons  list of { name =, of = { contender, key }, to = { contender, key } or nil, as = "ratio" (the default)
--                or "difference", unit =, goal = { at_least = } or { at_most = } }
--   notes        list of texts; contenders may add to it while they run
--   finish       optional: function(results), called at the end, which may change them
--   close        optional: removes what prepare made
function rounds.play(bench, scenario)
  local plan = scenario.prepare(bench)
  local samples = {}
  for round = 1, plan.rounds or bench.options.rounds do
    for _, contender in ipairs(plan.contenders) do
      bench.say("%s, round %d: %s", scenario.name, round, contender.name)
      add(samples, contender, contender.run(round))
    end
  end
  local results = {
    name = scenario.name, title = scenario.title, about = plan.about, notes = plan.notes or {},
    figures = collect_figures(plan, samples), comparisons = collect_comparisons(plan, samples),
  }
  if plan.finish then
    plan.finish(results)
  end
  if plan.close then
    plan.close()
  end
  return results
end

-- Figures of all rounds taken together, for plan.finish: { name =, unit =, value = }.
function rounds.single(name, unit, value)
  return { name = name, unit = unit, samples = { value } }
end

return rounds
