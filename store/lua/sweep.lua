-- Lists artifacts in the directory or bucket whose bytes may be deleted: their task has expired, or they were never attached.
-- KEYS: 1 outside
-- ARGV: 1 how many at most
-- Returns: {artifact id...}
-- Events: none
return redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', (clock()), 'LIMIT', 0, ARGV[1])
