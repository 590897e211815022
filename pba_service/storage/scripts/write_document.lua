-- Writes a document if nobody was faster. KEYS[1]: where. ARGV: the version read, the new content. Answers 1 when it was
-- written, also when the same write comes again because its answer was lost.
local version = tonumber(call('HGET', KEYS[1], 'v') or '0')
local read = tonumber(ARGV[1])
if version == read + 1 and call('HGET', KEYS[1], 'c') == ARGV[2] then return 1 end
if version ~= read then return 0 end
call('HSET', KEYS[1], 'v', string.format('%.0f', read + 1), 'c', ARGV[2])
return 1
