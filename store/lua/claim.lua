-- Takes due tasks for one worker: new ones, and those whose lease has lapsed (their worker is presumed dead).
-- KEYS: 1 queue, 2 wake list
-- ARGV: 1 queue name, 2 worker, 3 lease ms, 4 how many, 5 crashes allowed,
--       6... ids to take instead of the head of the queue (they must be due as well)
-- Returns: {now ms, ms until something is due (-1 = nothing queued), {id, fence, attempt, crashes, failures, tool,
--           principal, arguments}...}
-- Events: claim, reclaim; fail for a task whose workers keep dying
local now, precise = clock()
local worker, lease, room, patience = ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])
local taken = {}

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
  taken[#taken + 1] = { id, fence, attempt, crashes, tonumber(field[5] or '0'), field[6], field[7],
    redis.call('GET', K.args(id)) }
end

if #ARGV > 5 then
  for i = 6, #ARGV do
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
