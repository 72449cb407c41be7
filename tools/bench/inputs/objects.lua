-- SPDX-License-Identifier: MIT
-- Tables, closures and strings of many lifetimes; prints the same on every run.
local state = 42

local function next_number(limit)
  state = (state * 1103515245 + 12345) % 2147483648
  return state // 65536 % limit
end

local function tree(depth)
  if depth == 0 then return {} end
  return {left = tree(depth - 1), right = tree(depth - 1), depth = depth}
end

local function count(node)
  if not node.left then return 1 end
  return 1 + count(node.left) + count(node.right)
end

local function words(amount)
  local result = {}
  for index = 1, amount do
    local letters = {}
    for letter = 1, 1 + next_number(8) do letters[letter] = string.char(97 + next_number(10)) end
    result[index] = table.concat(letters)
  end
  return result
end

local function histogram(list)
  local counts, names = {}, {}
  for _, word in ipairs(list) do
    if not counts[word] then names[#names + 1] = word end
    counts[word] = (counts[word] or 0) + 1
  end
  table.sort(names, function(a, b)
    if counts[a] ~= counts[b] then return counts[a] > counts[b] end
    return a < b
  end)
  return names[1], counts[names[1]], #names
end

local function pipeline(length)
  local stages = {}
  for index = 1, length do
    local step = next_number(100)
    stages[index] = function(value) return (value * 31 + step) % 1000003 end
  end
  local value = 1
  for _, stage in ipairs(stages) do value = stage(value) end
  return value
end

for round = 1, 6 do
  local long_lived = tree(12)
  local sum = 0
  for _ = 1, 12 do sum = sum + count(tree(11)) end
  local list = words(25000)
  local text = table.concat(list, " ")
  local changed, changes = text:gsub("([aeiou])(%a)", function(a, b) return b .. a:upper() end)
  print(round, count(long_lived), sum, #changed, changes, histogram(list))
  print(pipeline(40000))
end
