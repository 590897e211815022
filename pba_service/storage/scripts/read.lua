-- Reads what predictions are made from. KEYS: links. ARGV: floor_ms, then for each link how long before its newest
-- sample to read. Answers for each link nothing, or version, blob, newest prediction, then bucket and rows in turn.
local FLOOR = tonumber(ARGV[1])

local function read_link(i)
  local base, context = KEYS[i], tonumber(ARGV[i + 1])
  local counters = call('HGET', base .. ':m', 'k')
  if not counters then return false end
  local s = load(counters)
  if s.newest < FLOOR then return false end

  local reply = call('HMGET', base .. ':s', 'v', 'b', 'p')
  local from = math.max(s.newest - context, s.oldest, FLOOR)
  for bucket = floor_of(from / BUCKET_MS), s.hi do
    local rows = call('GET', bucket_key(base, bucket))
    if rows then
      local have = floor_of(#rows / SAMPLE_BYTES)
      local start = bucket == s.lo and s.dead or 0
      if bucket * BUCKET_MS < from then
        start = lower_bound(rows, start, have, from - bucket * BUCKET_MS, SAMPLE_BYTES)
      end
      reply[#reply + 1] = bucket
      reply[#reply + 1] = sub(rows, start * SAMPLE_BYTES + 1, have * SAMPLE_BYTES)
    end
  end
  return reply
end

return for_each(#KEYS, read_link)
