-- The figures of the scenarios as tables, for the terminal and for results.md.

local stats = require "spec.bench.stats"

local report = {}

-- Three significant digits: the measurements are not more exact.
function report.number(value)
  local size = math.abs(value)
  if size >= 100 then
    local digits = ("%.0f"):format(value)
    return (digits:reverse():gsub("(%d%d%d)", "%1,"):reverse():gsub("^(%-?),", "%1"))
  end
  return (size >= 10 and "%.1f" or "%.2f"):format(value)
end

local function width(text)
  return select(2, text:gsub("[^\128-\191]", ""))
end

-- A table of texts, the first row being its titles, in the form of Markdown.
function report.table(rows)
  local widths, lines = {}, {}
  for _, row in ipairs(rows) do
    for i, cell in ipairs(row) do
      widths[i] = math.max(widths[i] or 0, width(cell))
    end
  end
  for number, row in ipairs(rows) do
    local cells, rule = {}, {}
    for i, cell in ipairs(row) do
      cells[i] = cell .. (" "):rep(widths[i] - width(cell))
      rule[i] = ("-"):rep(widths[i])
    end
    lines[#lines + 1] = "| " .. table.concat(cells, " | ") .. " |"
    if number == 1 then
      lines[#lines + 1] = "| " .. table.concat(rule, " | ") .. " |"
    end
  end
  return table.concat(lines, "\n")
end

local function spread(list)
  return #list == 1 and "" or ("%s – %s"):format(report.number(stats.least(list)), report.number(stats.most(list)))
end

-- Whether a goal was reached: { at_least = } or { at_most = }, both inclusive.
function report.verdict(goal, value)
  if not goal then
    return "", ""
  end
  local reached = goal.at_least and value >= goal.at_least or goal.at_most and value <= goal.at_most
  local limit = report.number(goal.at_least or goal.at_most)
  return (goal.at_least and "≥ " or "≤ ") .. limit, reached and "reached" or "missed"
end

-- One scenario's results as text: its figures, comparisons and notes.
function report.scenario(results)
  local parts = { "## " .. results.title, "", results.about }
  if #results.figures > 0 then
    local rows = { { "figure", "unit", "median", "min – max", "runs" } }
    for _, figure in ipairs(results.figures) do
      rows[#rows + 1] = { figure.name, figure.unit, report.number(stats.median(figure.samples)), spread(figure.samples),
        tostring(#figure.samples) }
    end
    parts[#parts + 1] = ""
    parts[#parts + 1] = report.table(rows)
  end
  if #results.comparisons > 0 then
    local rows = { { "comparison", "unit", "median", "min – max", "goal", "result" } }
    for _, comparison in ipairs(results.comparisons) do
      local value = stats.median(comparison.samples)
      rows[#rows + 1] = { comparison.name, comparison.unit, report.number(value), spread(comparison.samples),
        report.verdict(comparison.goal, value) }
    end
    parts[#parts + 1] = ""
    parts[#parts + 1] = report.table(rows)
  end
  for _, note in ipairs(results.notes) do
    parts[#parts + 1] = "\n" .. note
  end
  return table.concat(parts, "\n") .. "\n"
end

-- The goals of all scenarios in one table; nil when there are none.
function report.goals(all)
  local rows = { { "goal", "limit", "figure", "result" } }
  for _, results in ipairs(all) do
    for _, comparison in ipairs(results.comparisons) do
      if comparison.goal then
        local value = stats.median(comparison.samples)
        local limit, verdict = report.verdict(comparison.goal, value)
        rows[#rows + 1] = { results.name .. ": " .. comparison.name, limit .. " " .. comparison.unit,
          report.number(value), verdict }
      end
    end
  end
  return #rows > 1 and report.table(rows) or nil
end

-- report.page{ command =, machine = list of { what, value }, results = list }: all of results.md.
function report.page(run)
  local parts = { "# What the benchmarks measured", "",
    "Written by `" .. run.command .. "`; see [README.md](README.md). Absolute figures move with the machine: compare",
    "the ratios. Scenarios run their contenders in turn; a ratio is that of two runs of one round, and the table has",
    "the median of the rounds.", "" }
  for _, fact in ipairs(run.machine) do
    parts[#parts + 1] = ("- %s: %s"):format(fact[1], fact[2])
  end
  local goals = report.goals(run.results)
  if goals then
    parts[#parts + 1] = "\n## Goals\n\nFor two cores, with Postgres on the same machine.\n\n" .. goals
  end
  for _, results in ipairs(run.results) do
    parts[#parts + 1] = "\n" .. report.scenario(results):gsub("\n$", "")
  end
  return table.concat(parts, "\n") .. "\n"
end

return report
