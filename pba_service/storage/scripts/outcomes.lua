-- The outcomes of links. KEYS: links. ARGV: floor_ms. Answers for each link nothing when it is unknown, or 1 and the rows
-- of its outcomes, oldest first.
local FLOOR = tonumber(ARGV[1])

return for_each(#KEYS, function(i)
  if not alive(KEYS[i], FLOOR) then return false end
  return { 1, unpack(call('ZRANGEBYSCORE', KEYS[i] .. ':o', ARGV[1], '+inf')) }
end)
