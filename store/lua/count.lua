-- Adds what a process has counted to the figures of its app. The same batch again, after a lost reply, is not added twice.
-- KEYS: 1 figures, 2 the last batch of this process
-- ARGV: 1 number of the batch, 2 tools that get figures of their own, 3... row as `<what> <queue> <label> <tool>`, number, repeated
-- Returns: how many rows were added; 0 = the batch is known
-- Events: none
local FIGURES_KEPT, BATCH_KEPT = 90 * 86400000, 86400000 -- ms without a word of any process of the app; of this process
if tonumber(redis.call('GET', KEYS[2]) or 0) >= tonumber(ARGV[1]) then
  return 0
end

-- The tool under whose name the figures of this one are kept: its own, unless enough others came before it.
local named = {}
local function name_of(tool)
  if not named[tool] then
    local is_known = redis.call('HEXISTS', KEYS[1], 'tool ' .. tool) == 1
    if not is_known and tonumber(redis.call('HGET', KEYS[1], 'tools') or 0) < tonumber(ARGV[2]) then
      redis.call('HINCRBY', KEYS[1], 'tools', 1)
      redis.call('HSET', KEYS[1], 'tool ' .. tool, 1)
      is_known = true
    end
    named[tool] = is_known and tool or 'other'
  end
  return named[tool]
end

for i = 3, #ARGV, 2 do
  local row, tool = ARGV[i]:match('^(%S+ %S+ %S+ )(.*)$')
  redis.call('HINCRBY', KEYS[1], row .. name_of(tool), ARGV[i + 1])
end
redis.call('PEXPIRE', KEYS[1], FIGURES_KEPT)
redis.call('SET', KEYS[2], ARGV[1], 'PX', BATCH_KEPT)
return (#ARGV - 2) / 2
