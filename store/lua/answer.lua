-- Takes answers to open questions; unknown and already answered keys are passed over.
-- KEYS: 1 inputs
-- ARGV: 1 id, 2 principal, then key, answer, key, answer...
-- Returns: 'missing' | 'ended' | number of answers taken
-- Events: resume when the last open question of a waiting task is answered, else answer
local id = ARGV[1]
local record = K.record(id)
local field = redis.call('HMGET', record, 'principal', 'status', 'worker', 'questions')
if field[1] ~= ARGV[2] then
  return 'missing'
end
if not may('answer', field[2]) then
  return 'ended'
end
local taken = 0
for i = 3, #ARGV, 2 do
  local question = 'q:' .. ARGV[i]
  if redis.call('HEXISTS', KEYS[1], question) == 1 and redis.call('HSETNX', KEYS[1], 'a:' .. ARGV[i], ARGV[i + 1]) == 1 then
    redis.call('HDEL', KEYS[1], question)
    taken = taken + 1
  end
end
if taken == 0 then
  return 0
end
local open = tonumber(field[4] or '0') - taken
local at = moment_of(id, clock())
if open == 0 and may('resume', field[2]) then
  redis.call('HSET', record, 'status', TO.resume)
  append(id, at, 'resume', { 'questions', 0 })
else
  append(id, at, 'answer', { 'questions', open })
end
if field[3] and field[3] ~= '' then
  redis.call('PUBLISH', K.signal(field[3]), 'answer ' .. id)
end
return taken
