-- The outcomes of links. KEYS: links. ARGV: floor_ms. Answers for each link nothing when it is unknown, or 1 and the rows
-- of its outcomes, oldest first.
local FLOOR = tonumber(ARGV[1])

return for_each(#KEYS, function(i)
  local counters = call('HGET', KEYS[i] .. ':m', 'k')
  if newest_of(counters) < FLOOR then return false end
  return { 1, unpack(call('ZRANGEBYSCORE', KEYS[i] .. ':o', ARGV[1], '+inf')) }
end)
