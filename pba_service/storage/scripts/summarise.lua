-- What is known of links. KEYS: links. ARGV: floor_ms. Answers for each link nothing, or samples, node, peer, region,
-- newest bucket, newest row, newest prediction.
local FLOOR = tonumber(ARGV[1])

-- Samples that are not too old; those that are have been counted when a link has been silent since they became so.
local function count(base, s)
  if s.oldest >= FLOOR then return s.n end
  local n, first = 0, floor_of(FLOOR / BUCKET_MS)
  for bucket = math.max(first, s.lo), s.hi do
    local key = bucket_key(base, bucket)
    local dead, have = bucket == s.lo and s.dead or 0, floor_of(call('STRLEN', key) / SAMPLE_BYTES)
    if bucket == first and have > 0 then
      dead = lower_bound(call('GET', key), dead, have, FLOOR - bucket * BUCKET_MS, SAMPLE_BYTES)
    end
    n = n + math.max(have - dead, 0)
  end
  return n
end

local function summarise(i)
  local base = KEYS[i]
  local meta = call('HMGET', base .. ':m', 'k', 'n', 'p', 'r', 'b')
  if not meta[1] then return false end
  local s = load(base, meta[1], meta[5])
  if s.newest < FLOOR then return false end
  local newest = call('GETRANGE', bucket_key(base, s.hi), -SAMPLE_BYTES, -1)
  return { count(base, s), meta[2], meta[3], meta[4], s.hi, newest, call('HGET', base .. ':s', 'p') }
end

return for_each(#KEYS, summarise)
