-- Passes log messages of a running task to those who follow it at the moment. Nothing keeps them.
-- KEYS: none
-- ARGV: 1 id, 2 fence, 3 messages
-- Returns: 'sent' | 'lost'
-- Events: none
if not owns(load(ARGV[1]), ARGV[2], 'progress') then
  return 'lost'
end
redis.call('PUBLISH', K.record(ARGV[1]), 'log ' .. ARGV[3])
return 'sent'
