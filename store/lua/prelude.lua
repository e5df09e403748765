-- Shared opening of the scripts: the clock, the event writer, the end of a task.
-- The loader puts the engine's table of moves before this text and ordering.lua, as FROM[move] (states between blanks) and
-- TO[move] (state); of both texts it takes the blocks between blank lines that a script needs. It writes keys in the place
-- of K.name(id) and K.name. Nothing here is a move of its own.

local HISTORY = 10000 -- events kept of one task; older progress falls off

local PARKED = 32503680000000 -- when a task without a worker that waits for answers is due, in ms: never

-- One clock for everybody. Returns whole milliseconds, and milliseconds with their fraction (order within one).
local function clock()
  local t = redis.call('TIME')
  return t[1] * 1000 + math.floor(t[2] / 1000), t[1] * 1000 + t[2] / 1000
end

-- What a record holds by field name, false where it has none: what every move asks, and what this one wants besides.
local function load(id, ...)
  return fields(id, { 'status', 'fence', 'seq', 'updated_ms', ... })
end

-- Time of a record's next event: never before its last one, so that updated_ms is monotone.
local function moment_of(was, now)
  return math.max(now, tonumber(was.updated_ms or 0))
end

-- The least fence that may be handed out: 0, or on a Redis whose data had another history when the last one was - it was
-- promoted, or started again - the time at which that was noticed, in ms: beyond every fence that may have been lost.
-- Should the clock have gone back, it is a million beyond the one before.
local function lowest_fence()
  local told = redis.pcall('INFO', 'replication')
  local history = type(told) == 'string' and told:match('master_replid:(%x+)')
  if not history then
    return 0 -- this user may not ask, or this Redis does not say
  end
  local known = redis.call('HMGET', K.epoch, 'history', 'floor')
  if known[1] == history then
    return tonumber(known[2])
  end
  local is_new = not known[1] and told:find('master_replid2:0000000000', 1, true)
  local floor = is_new and 0 or math.max(clock(), (known[2] or 0) + 1000000)
  redis.call('HSET', K.epoch, 'history', history, 'floor', floor)
  return floor
end

-- The fence behind this one.
local floor
local function next_fence(fence)
  floor = floor or lowest_fence()
  return math.max(fence + 1, floor)
end

-- A whole number as text, once: Redis would write it with 17 digits for every command that it is given to.
local texts = {}
local function digits(number)
  local text = texts[number] or ('%d'):format(number)
  texts[number] = text
  return text
end

-- Makes a move: facts (flat name, value list; '' = None) go to record and history, `also` to the record alone; then the
-- event number is announced. `was`: the record as loaded. The list of facts is used up.
local function append(id, was, at, move, facts, also)
  local record, number = K.record(id), (was.seq or 0) + 1
  local seq = digits(number)
  at = digits(at)
  redis.call('XADD', K.events(id), seq .. '-0', 'move', move, 'at', at, unpack(facts))
  if number > HISTORY then
    redis.call('XTRIM', K.events(id), 'MAXLEN', '~', HISTORY)
  end
  for i = 1, also and #also or 0 do
    facts[#facts + 1] = also[i]
  end
  if TO[move] then
    redis.call('HSET', record, 'seq', seq, 'updated_ms', at, 'status', TO[move], unpack(facts))
  else
    redis.call('HSET', record, 'seq', seq, 'updated_ms', at, unpack(facts))
  end
  redis.call('PUBLISH', record, seq)
end

-- Lets what a task has left beside its record - output, artifacts - go when the record goes.
local function let_go(id, now, retention)
  redis.call('PEXPIRE', K.output(id), retention)
  redis.call('PEXPIRE', K.artifacts(id), retention)
  for _, artifact in ipairs(redis.call('SMEMBERS', K.artifacts(id))) do
    redis.call('PEXPIRE', K.artifact(artifact), retention)
    redis.call('PEXPIRE', K.blob(artifact), retention)
    redis.call('ZADD', K.outside, 'XX', now + retention, artifact)
  end
end

-- What a move that may end a task loads besides.
local ENDING = { 'queue', 'principal', 'retention_ms', 'once', 'listed_for', 'left', 'lane' }

-- What the tasks that end in this call have to leave or to join, by key, until `clear_away`.
local leaving, fading, tally = {}, {}, {}

local function leave(set, id)
  local ids = leaving[set]
  if ids then
    ids[#ids + 1] = id
  else
    leaving[set] = { id }
  end
end

-- Takes what has ended in this call out of every shared set, all tasks at once. Every call that ends tasks ends with it.
local function clear_away()
  for set, ids in pairs(leaving) do
    redis.call('ZREM', set, unpack(ids))
  end
  for kind, count in pairs(tally) do
    redis.call('HINCRBY', K.ended, kind, count)
  end
  if #fading > 0 then
    redis.call('ZADD', K.fading, unpack(fading))
  end
  leaving, fading, tally = {}, {}, {}
end

-- Ends a task: last event, out of every queue and set (by `clear_away`), lease and questions gone, the rest kept for the
-- retention. The arguments of a task that succeeded go too: nobody will run it again. One that broke is a dead letter.
-- `was`: loaded with ENDING; `facts` end with the reason.
local function settle(id, was, at, move, facts, succeeded)
  local kept, reason = was.retention_ms, facts[#facts]
  append(id, was, at, move, facts, { 'ended_ms', digits(at), 'questions', '0' })
  leave(K.queue(was.queue), id)
  if was.lane then
    leave_lane(id, was.lane, at)
  end
  leave(K.live, id)
  leave(K.open(was.principal), id)
  local gone = { K.inputs(id), K.journal(id), K.job(id), K.in_progress(id), K.retry(id), succeeded and K.args(id) }
  redis.call('DEL', unpack(gone, 1, succeeded and 6 or 5))
  redis.call('PEXPIRE', K.record(id), kept)
  redis.call('PEXPIRE', K.events(id), kept)
  if not succeeded then
    redis.call('PEXPIRE', K.args(id), kept)
  end
  if TO[move] ~= TO.cancel and reason ~= '' and reason ~= 'tool_error' then
    redis.call('ZADD', K.dead, at, id)
  end
  local kind = TO[move] .. ' ' .. was.queue
  tally[kind] = (tally[kind] or 0) + 1
  fading[#fading + 1] = digits(at + kept)
  fading[#fading + 1] = was.listed_for and id .. ' ' .. was.listed_for or id
  if was.left then
    let_go(id, at, kept)
  end
  if was.once and succeeded then
    redis.call('PEXPIRE', K.once(was.principal .. ':' .. was.once), kept)
  elseif was.once then
    redis.call('DEL', K.once(was.principal .. ':' .. was.once)) -- the same call again is another try
  end
end

-- Whether fence still names the owner of a loaded record, and the move is legal now.
local function holds(was, fence, move)
  return was.fence == fence and may(move, was.status)
end

-- Ends a task with its outcome. Saying it again is safe: 'already'. 'lost': the word no longer counts.
local function finish(now, id, fence, move, outcome, reason)
  local was = load(id, unpack(ENDING))
  if not holds(was, fence, move) then
    local same = was.fence == fence and was.status == TO[move]
    return same and redis.call('GET', K.result(id)) == outcome and 'already' or 'lost'
  end
  settle(id, was, moment_of(was, now), move, { 'reason', reason }, TO[move] == TO.complete and reason == '')
  redis.call('SET', K.result(id), outcome, 'PX', was.retention_ms)
  return 'finished'
end

-- Ends tasks: ARGV has id, fence, move, outcome, reason of each from `first` to `last`. What became of each, or an error.
local function finish_all(now, first, last)
  local replies = {}
  for i = first, last, 5 do
    -- One damaged record must not keep the others from being settled.
    local done, reply = pcall(finish, now, ARGV[i], ARGV[i + 1], ARGV[i + 2], ARGV[i + 3], ARGV[i + 4])
    local is_text = type(reply) == 'string' -- what Redis 7 raises is an error reply already
    replies[#replies + 1] = not done and is_text and redis.error_reply(reply) or reply
  end
  clear_away()
  return replies
end

-- Takes tasks whose retention has passed off the lists, oldest first: so many at most.
local function forget(now, most)
  for _, entry in ipairs(redis.call('ZRANGEBYSCORE', K.fading, '-inf', '(' .. now, 'LIMIT', 0, most)) do
    local id, lister = entry:match('^(%S+) ?(.*)$')
    redis.call('ZREM', K.fading, entry)
    redis.call('ZREM', K.all, id)
    redis.call('ZREM', K.dead, id)
    if lister ~= '' then
      redis.call('ZREM', K.list(lister), id)
    end
  end
end

-- Whether a loaded record (with its worker) waits for answers and no worker holds it.
local function parked(was)
  return may('wake', was.status) and (was.worker or '') == ''
end

-- When a parked task is looked at even if nobody answers: at its deadline.
local function parked_until(was)
  return tonumber(was.deadline_ms or PARKED)
end

