-- Takes due tasks for one worker: new ones, and those whose lease has lapsed (their worker is presumed dead).
-- KEYS: 1 queue, 2 wake list
-- ARGV: 1 queue name, 2 worker, 3 lease ms, 4 how many, 5 crashes allowed, 6 turn, or '' for a claim that is not repeated,
--       7... ids to take instead of the head of the queue (they must be due as well)
-- Returns: {now ms, ms until something is due (-1 = nothing queued), {id, fence, attempt, crashes, failures, tool,
--           principal, arguments}...}
-- The same turn again, after a lost reply, is answered with the tasks it took the first time.
-- Events: claim, reclaim; fail for a task whose workers keep dying
local now, precise = clock()
local worker, lease, room, patience = ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])
local turn, taken, names = ARGV[6], {}, {}

local function hand_over(id, fence, attempt, crashes, failures, tool, principal)
  names[#names + 1] = id
  taken[#taken + 1] = { id, tonumber(fence), tonumber(attempt), tonumber(crashes or '0'), tonumber(failures or '0'), tool,
    principal, redis.call('GET', K.args(id)) }
end

-- What this worker was given in the same turn before, as far as it still holds it.
local function repeat_turn(given)
  for id in given:gmatch(' (%S+)') do
    local field = redis.call('HMGET', K.record(id), 'fence', 'attempt', 'crashes', 'failures', 'tool', 'principal',
      'worker', 'status')
    if field[7] == worker and may('release', field[8]) then
      hand_over(id, field[1], field[2], field[3], field[4], field[5], field[6])
    end
  end
end

local function take(id)
  local record = K.record(id)
  local field = redis.call('HMGET', record, 'status', 'fence', 'attempt', 'crashes', 'failures', 'tool', 'principal',
    'started_ms')
  local lapsed = may('reclaim', field[1])
  if not lapsed and not may('claim', field[1]) then
    redis.call('ZREM', KEYS[1], id) -- ended or gone: a leftover of somebody else's queue writing
    redis.call('DEL', K.job(id), K.in_progress(id))
    return
  end
  local at = moment_of(id, now)
  local crashes = tonumber(field[4] or '0') + (lapsed and 1 or 0)
  if crashes > patience then
    settle(id, at, 'fail', { 'crashes', crashes, 'reason', 'poisoned' })
    return
  end
  local fence, attempt = tonumber(field[2]) + 1, tonumber(field[3]) + 1
  redis.call('HSET', record, 'status', TO.claim, 'due_ms', '', 'reason', '')
  if not field[8] then
    redis.call('HSET', record, 'started_ms', at)
  end
  append(id, at, lapsed and 'reclaim' or 'claim', { 'fence', fence, 'attempt', attempt, 'crashes', crashes,
    'worker', worker })
  redis.call('ZADD', KEYS[1], now + lease, id)
  redis.call('SET', K.in_progress(id), fence, 'PX', lease)
  hand_over(id, fence, attempt, crashes, field[5], field[6], field[7])
end

local given = turn ~= '' and redis.call('GET', K.turn(worker))
if given and given:match('^%S+') == turn then
  repeat_turn(given)
elseif #ARGV > 6 then
  for i = 7, #ARGV do
    local score = redis.call('ZSCORE', KEYS[1], ARGV[i])
    if score and tonumber(score) <= precise then
      take(ARGV[i])
    end
  end
else
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', precise, 'LIMIT', 0, room)) do
    take(id)
  end
end

if turn ~= '' and #names > 0 then
  redis.call('SET', K.turn(worker), turn .. ' ' .. table.concat(names, ' '), 'PX', lease)
end
local head = redis.call('ZRANGE', KEYS[1], 0, 0, 'WITHSCORES')
local wait = -1
if head[2] then
  wait = math.max(0, math.ceil(tonumber(head[2]) - precise))
end
if wait == 0 then
  wake(ARGV[1]) -- more than this worker can take: an idle one should look too
else
  redis.call('DEL', KEYS[2])
end
return { now, wait, taken }
