-- Stores what is desired of the models if nobody was faster. KEYS[1]: where. ARGV: the revision read, the new revision,
-- the new state, a token of this proposal. Answers 1 when it was stored.
local stored = call('HMGET', KEYS[1], 'v', 't')
if stored[1] == ARGV[2] and stored[2] == ARGV[4] then return 1 end -- its answer was lost, and it came again
if (stored[1] or '0') ~= ARGV[1] then return 0 end
call('HSET', KEYS[1], 'v', ARGV[2], 'd', ARGV[3], 't', ARGV[4])
return 1
