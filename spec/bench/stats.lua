-- Statistics of lists of figures.

local stats = {}

-- stats.quantile(list, q): the least number that at least that part of the list does not exceed; nil of an empty list.
function stats.quantile(list, q)
  local sorted = { unpack(list) }
  table.sort(sorted)
  return sorted[math.max(1, math.ceil(#sorted * q))]
end

-- The median: the middle value, or the mean of the two in the middle.
function stats.median(list)
  local sorted = { unpack(list) }
  table.sort(sorted)
  local half = math.floor(#sorted / 2)
  if #sorted % 2 == 1 then
    return sorted[half + 1]
  end
  return #sorted > 0 and (sorted[half] + sorted[half + 1]) / 2 or nil
end

function stats.least(list)
  return stats.quantile(list, 0)
end

function stats.most(list)
  return stats.quantile(list, 1)
end

return stats
