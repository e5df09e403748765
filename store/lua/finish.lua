-- Ends tasks with their outcomes. The same call again is safe: it is answered 'already'.
-- KEYS: none
-- ARGV: id, fence, move (complete or fail), outcome, reason ('' for a success or the tool's own error), repeated
-- Returns: {'finished' | 'already' | 'lost' | 'full' | an error, for each}; the error, where there is one task
-- Events: complete or fail
announced = {}
local replies = finish_all(clock(), 1, #ARGV)
publish_all()
return #replies == 1 and replies[1].err and replies[1] or replies
