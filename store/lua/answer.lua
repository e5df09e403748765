-- Takes answers to open questions; unknown and already answered keys are ignored.
-- KEYS: 1 inputs
-- ARGV: 1 id, 2 principal, then key, answer, key, answer...
-- Returns: 'missing' | 'ended' | number of answers taken
-- Events: when the last open question of a waiting task is answered, resume, or wake if it is parked; else answer
local id = ARGV[1]
local task = load(id, 'principal', 'worker', 'questions')
if task.principal ~= ARGV[2] then
  return 'missing'
end
if not is_legal('answer', task.status) then
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
local open = (task.questions or 0) - taken
local now = clock()
local move = 'answer'
if open == 0 and is_legal('resume', task.status) then
  move = is_parked(task) and 'wake' or 'resume'
end
append(id, task, moment_of(task, now), move, { 'questions', digits(open) })
if move == 'wake' then
  requeue(id, now, now)
end
if task.worker and task.worker ~= '' then
  redis.call('PUBLISH', K.signal(task.worker), 'answer ' .. id)
end
return taken
