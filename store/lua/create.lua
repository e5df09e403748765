-- Creates a task: idempotency, quotas, then record, arguments, event, arq's job and queue entry in one step.
-- KEYS: 1 record
-- ARGV: 1 id, 2 arguments, 3 arq job, 4 tool, 5 queue, 6 principal, 7 retention ms, 8 poll ms,
--       9 idempotency key or '', 10 open tasks allowed to the principal, 11 open tasks allowed to all (0 = no limit, -1 = none),
--       12 list owner or '', 13 id of the task it repeats or '', 14 digest of what the key stands for or '',
--       15 retries or '', 16 ms after which it must have ended or '', 17 priority, 18 lane or '',
--       19 how many tasks of the lane may run, 20 rate of the lane as `n/ms` or `n/ms/start`, or '',
--       21 tasks and 22 kilobytes that the principal may keep (0 = no limit),
--       23 signature of owner, tool and list, or '' without seal keys, 24 before which ms since 1970 it may not start or '',
--       25 the ends that are sent to its webhook, or ''
-- Returns: {'created', id, ahead, now ms} | {'exists', id} | {'reused', id of the key's task}
--          | {'quota', 'principal' or 'all', limit, used} | {'quota', 'tasks' or 'bytes', limit, used, ms until some expires}
-- Events: create
local COUNTED = 4096 -- bytes of arguments that are counted while a task is open; of less, the number of tasks is limit enough
local OPEN_FOR = 7 * 86400000 -- ms for which the arguments of an open task are counted
local id, queue, principal = ARGV[1], ARGV[5], ARGV[6]
local idempotency = ARGV[9] ~= '' and K.once(principal .. ':' .. ARGV[9])
local used = idempotency and redis.call('GET', idempotency)
if used then
  local first, digest = used:match('^(%S+) ?(.*)$')
  if redis.call('EXISTS', K.record(first)) == 1 then
    return { digest == ARGV[14] and 'exists' or 'reused', first }
  end
end
local mine, all = tonumber(ARGV[10]), tonumber(ARGV[11])
local open = (mine ~= 0 or all ~= 0) and redis.call('ZCARD', K.live) or 0
local too_many = all ~= 0 and open >= all and { 'quota', 'all', all, open }
if mine ~= 0 and open >= mine and redis.call('ZCARD', K.open(principal)) >= mine then -- a principal has no more than there are
  too_many = { 'quota', 'principal', mine, mine }
end

local now, precise = clock()
local delay = math.max(0, (tonumber(ARGV[24]) or 0) - now)
local argument_bytes = #ARGV[2] > COUNTED and #ARGV[2] or 0
local expired_sums = {}

-- Why the principal may keep no more, false if it may.
local function keeps_too_much()
  local most_tasks, most_kilobytes, tasks, kilobytes, next_end = tonumber(ARGV[21]), tonumber(ARGV[22]), 0, 0, math.huge
  local sums = redis.call('HGETALL', K.kept(principal))
  for i = 1, #sums, 2 do
    local ends, sum = tonumber(sums[i]), tonumber(sums[i + 1])
    if ends > now then
      local whole = math.floor(sum / TASK)
      tasks, kilobytes, next_end = tasks + whole, kilobytes + sum - whole * TASK, math.min(next_end, ends)
    else
      expired_sums[#expired_sums + 1] = sums[i]
    end
  end
  local wait = next_end == math.huge and 0 or next_end - now
  if most_tasks ~= 0 and tasks >= most_tasks then
    return { 'quota', 'tasks', most_tasks, tasks, wait }
  end
  kilobytes = kilobytes + math.ceil(argument_bytes / 1024)
  return most_kilobytes ~= 0 and kilobytes > most_kilobytes and { 'quota', 'bytes', most_kilobytes, kilobytes, wait }
end

if ARGV[21] ~= '0' or ARGV[22] ~= '0' then
  too_many = too_many or keeps_too_much()
end
if too_many and redis.call('EXISTS', KEYS[1]) == 0 then
  return too_many
end

local at, due = digits(now), ('%.3f'):format(precise)
local facts = { 'tool', ARGV[4], 'queue', queue, 'principal', principal, 'retention_ms', ARGV[7],
  'poll_ms', ARGV[8] }
local function add_fact(name, value)
  if value ~= '' then
    facts[#facts + 1], facts[#facts + 2] = name, value
  end
end
local lane = ARGV[18] ~= '' and ARGV[18]
add_fact('rerun_of', ARGV[13])
add_fact('retries', ARGV[15])
add_fact('deadline_ms', ARGV[16] ~= '' and digits(now + ARGV[16]) or '')
add_fact('priority', ARGV[17] ~= '0' and ARGV[17] or '')
add_fact('lane', ARGV[18])
add_fact('lane_limit', lane and ARGV[19] or '')
add_fact('rate', ARGV[20])
add_fact('not_before_ms', delay > 0 and ARGV[24] or '')
-- The first write, which a full Redis refuses. A history that has already begun: this is the same call again, after a lost
-- reply.
local length = redis.call('RPUSH', K.events(id), cmsgpack.pack({ '1', 'create', at, unpack(facts) }))
if length > 1 then
  redis.call('RPOP', K.events(id))
  return redis.call('EXISTS', KEYS[1]) == 1 and { 'exists', id } or redis.error_reply('ERR a history without a record')
end
add_fact('listed_for', ARGV[12])
add_fact('once', ARGV[9])
add_fact('signed', ARGV[23])
add_fact('webhook', ARGV[25])
if argument_bytes > 0 then
  local sum = sum_of(now, math.max(OPEN_FOR, ARGV[7]) + delay)
  add_fact('counted', digits(sum) .. ' ' .. digits(math.ceil(argument_bytes / 1024)))
  count_kept(principal, sum, 0, argument_bytes)
end
redis.call('HSET', KEYS[1], 'seq', '1', 'status', TO.create, 'created_ms', at, 'updated_ms', at, 'fence', '0',
  'attempt', '0', unpack(facts))
redis.call('MSET', K.args(id), ARGV[2], K.job(id), ARGV[3])
redis.call('ZADD', K.live, at, id)
redis.call('ZADD', K.all, due, id)
redis.call('ZADD', K.open(principal), at, id)
if ARGV[12] ~= '' then
  redis.call('ZADD', K.list(ARGV[12]), due, id)
end
if idempotency then
  redis.call('SET', idempotency, id .. ' ' .. ARGV[14]) -- has no TTL: it is deleted with the task, however long that takes
end
if ARGV[13] ~= '' and redis.call('EXISTS', K.record(ARGV[13])) == 1 then
  redis.call('HSET', K.record(ARGV[13]), 'rerun_as', id)
  redis.call('ZREM', K.dead, ARGV[13])
end
apply_sums()
if #expired_sums > 0 then
  redis.call('HDEL', K.kept(principal), unpack(expired_sums))
end
purge_expired(now, 4) -- more than this call adds, so that lists hold few expired tasks
if delay > 0 then -- a claim gives it a position, and a slot of its lane, once it is due
  redis.call('ZADD', K.queue(queue), ARGV[24], id)
  wake(queue)
  return { 'created', id, -1, now }
end
local ordering_fields = { queue = queue, principal = principal, priority = ARGV[17], lane = lane, lane_limit = ARGV[19] }
local alone = join_queue(id, ordering_fields, now)
return { 'created', id, alone and 0 or ahead_of(id, ordering_fields), now }
