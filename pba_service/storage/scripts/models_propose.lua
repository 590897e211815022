-- Stores what is desired of the models if nobody was faster. KEYS[1]: where. ARGV: the revision read, the new revision,
-- the new state. Answers 1 when it was stored.
local revision = call('HGET', KEYS[1], 'v') or '0'
if revision ~= ARGV[1] then return 0 end
call('HSET', KEYS[1], 'v', ARGV[2], 'd', ARGV[3])
return 1
