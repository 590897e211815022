-- Adds an outcome to a link. KEYS: the link. ARGV: floor_ms (what was measured before has expired), retention_ms, how many
-- are kept, when it ended, its row. Answers 1, or nothing when the link is unknown.
local FLOOR, RETENTION, KEPT, ENDED, ROW = tonumber(ARGV[1]), ARGV[2], tonumber(ARGV[3]), ARGV[4], ARGV[5]

return for_each(#KEYS, function(i)
  if not alive(KEYS[i], FLOOR) then return false end
  local key = KEYS[i] .. ':o'
  call('ZREMRANGEBYSCORE', key, ENDED, ENDED)
  call('ZADD', key, ENDED, ROW)
  call('ZREMRANGEBYRANK', key, 0, -KEPT - 1)
  call('PEXPIRE', key, RETENTION)
  return 1
end)
