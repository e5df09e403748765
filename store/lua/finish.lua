-- Ends a task with its outcome. Repeating the same call is safe: the second is answered 'already'.
-- KEYS: 1 record, 2 result
-- ARGV: 1 id, 2 fence, 3 move (complete or fail), 4 outcome, 5 reason, '' for a success or an error of the tool's own
-- Returns: 'finished' | 'already' | 'lost'
-- Events: complete or fail
local id = ARGV[1]
local mine, status, fence = holds(id, ARGV[2], ARGV[3])
if not mine then
  if fence == ARGV[2] and status == TO[ARGV[3]] and redis.call('GET', KEYS[2]) == ARGV[4] then
    return 'already'
  end
  return 'lost'
end
settle(id, moment_of(id, clock()), ARGV[3], { 'reason', ARGV[5] },
  TO[ARGV[3]] == TO.complete and ARGV[5] == '')
redis.call('SET', KEYS[2], ARGV[4], 'PX', redis.call('HGET', KEYS[1], 'retention_ms'))
return 'finished'
