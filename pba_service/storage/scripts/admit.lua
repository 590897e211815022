-- Takes links into the index, all of them or none. KEYS[1]: the index. ARGV: the most links it may hold, then the links.
-- Answers 1, or 0 when there is no room.
local new = 0
for i = 2, #ARGV do
  if not call('ZSCORE', KEYS[1], ARGV[i]) then new = new + 1 end
end
if new > 0 and call('ZCARD', KEYS[1]) + new > tonumber(ARGV[1]) then return 0 end
for i = 2, #ARGV do call('ZADD', KEYS[1], 0, ARGV[i]) end
return 1
