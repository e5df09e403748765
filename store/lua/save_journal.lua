-- Saves results of a running task's steps, and its state, for its later attempts.
-- KEYS: 1 journal
-- ARGV: 1 id, 2 fence, then field, value, repeated
-- Returns: 'kept' | 'lost'
-- Events: none: what a reader sees of a task does not change
if not owns(load(ARGV[1]), ARGV[2], 'progress') then
  return 'lost'
end
redis.call('HSET', KEYS[1], unpack(ARGV, 3))
return 'kept'
