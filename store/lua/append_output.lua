-- Appends chunks to the output of a running task. The stream is capped: its oldest chunks are deleted.
-- KEYS: 1 output
-- ARGV: 1 id, 2 fence, 3 most chunks, 4 most bytes, 5 batch id (unique to this call), then chunk, chunk...
-- Returns: number of the last chunk | 'lost'
-- Events: none: what a reader sees of the task does not change
local id, most = ARGV[1], tonumber(ARGV[4])
local task = load(id, 'attempt', 'left')
if not owns(task, ARGV[2], 'progress') then
  return 'lost'
end
local number, at = 0, 0
local last = redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 1)[1]
if last then
  number, at = tonumber(last[1]:match('^%d+')), tonumber(last[2][4])
  if last[2][8] == ARGV[5] then
    return number -- the same call again, after a lost reply
  end
end
local now = clock()
for i = 6, #ARGV do
  number, at = number + 1, at + #ARGV[i]
  redis.call('XADD', KEYS[1], 'MAXLEN', ARGV[3], number .. '-0', 'chunk', ARGV[i], 'end', at, 'attempt', task.attempt, 'turn',
    ARGV[5], 'at', now)
end
local first = redis.call('XRANGE', KEYS[1], '-', '+', 'COUNT', 1)[1]
while at - tonumber(first[2][4]) + #first[2][2] > most do
  redis.call('XDEL', KEYS[1], first[1])
  first = redis.call('XRANGE', KEYS[1], '-', '+', 'COUNT', 1)[1]
end
if not task.left then
  redis.call('HSET', K.record(id), 'left', 1)
end
redis.call('PUBLISH', KEYS[1], number)
return number
