-- Keeps what a replica says of itself, and drops what was not heard of any more. KEYS[1]: the replicas. ARGV: for how
-- many ms this report holds, then the replica and its report, or nothing more. Answers all reports that hold.
local clock = call('TIME')
local now = clock[1] * 1000 + floor_of(clock[2] / 1000)
if ARGV[2] then call('HSET', KEYS[1], ARGV[2], string.format('%.0f', now + ARGV[1]) .. ' ' .. ARGV[3]) end
local alive = {}
local all = call('HGETALL', KEYS[1])
for i = 1, #all, 2 do
  local until_ms = tonumber(string.match(all[i + 1], '^(%d+) '))
  if until_ms and until_ms >= now then
    alive[#alive + 1] = sub(all[i + 1], find(all[i + 1], ' ', 1, true) + 1)
  else
    call('HDEL', KEYS[1], all[i])
  end
end
return alive
