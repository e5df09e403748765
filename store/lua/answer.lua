-- Takes answers to open questions; unknown and already answered keys are passed over.
-- KEYS: 1 inputs
-- ARGV: 1 id, 2 principal, then key, answer, key, answer...
-- Returns: 'missing' | 'ended' | number of answers taken
-- Events: when the last open question of a waiting task is answered, resume, or wake if it is parked; else answer
local id = ARGV[1]
local was = load(id, 'principal', 'worker', 'questions')
if was.principal ~= ARGV[2] then
  return 'missing'
end
if not may('answer', was.status) then
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
local open = (was.questions or 0) - taken
local now = clock()
local move = 'answer'
if open == 0 and may('resume', was.status) then
  move = parked(was) and 'wake' or 'resume'
end
append(id, was, moment_of(was, now), move, { 'questions', open })
if move == 'wake' then
  requeue(id, now, now)
end
if was.worker and was.worker ~= '' then
  redis.call('PUBLISH', K.signal(was.worker), 'answer ' .. id)
end
return taken
