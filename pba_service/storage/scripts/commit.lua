-- Writes states, newest predictions and ledger rows. KEYS: links, then, where one server holds everything, the stream of
-- events. ARGV: links, floor_ms (what was measured before has expired), now_ms, ledger_retention_ms, a token of this
-- commit, then for each link the version it was computed from, the version it gets, blob, prediction
-- (empty: none), number of ledger entries, and for each of them model version, day and row. Answers for each link 1, or 0
-- when the stored version is another one: then nothing of it is written.
local LINKS, FLOOR, NOW, RETENTION = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local TOKEN, EVENTS = ARGV[5], KEYS[LINKS + 1]
local made = {}

-- Where each link's arguments begin.
local begins, position = {}, 6
for i = 1, LINKS do
  begins[i] = position
  position = position + 5 + 3 * tonumber(ARGV[position + 4])
end

-- The number that stands for a model version in the ledger rows of a link, and whether it is new.
local function model_number(key, version)
  local number = call('HGET', key, version)
  local new = not number
  if new then
    number = call('HLEN', key)
    call('HSET', key, version, number)
  end
  return tonumber(number) or error(FOREIGN .. 'the number of a model version'), new
end

local function write_ledger(base, version, day, row)
  local ttl = (tonumber(day) + 1) * DAY_MS + RETENTION - NOW
  if ttl <= 0 then return end
  local key, numbers, expiry = base .. ':l:' .. day, base .. ':v', string.format('%.0f', ttl)
  local number, new = model_number(numbers, version)
  local _, existed = merge(key, DAY_MS, 0, sub(row, 1, LEDGER_BYTES - 4) .. pack('<I4', number), LEDGER_BYTES, {})
  if not existed then call('PEXPIRE', key, expiry) end
  -- The numbers outlive every row that was written with them.
  if (new or not existed) and call('PTTL', numbers) < ttl then call('PEXPIRE', numbers, expiry) end
end

local function commit_link(i)
  local base, at = KEYS[i], begins[i]
  local read_version, version, blob, prediction = ARGV[at], ARGV[at + 1], ARGV[at + 2], ARGV[at + 3]
  if not alive(base, FLOOR) then return 0 end -- the link's last sample has expired
  local key = base .. ':s'
  local stored = call('HMGET', key, 'v', 't')
  local current = stored[1] or '0'
  if current == version and stored[2] == TOKEN then return 1 end -- its answer was lost, and it came again
  if current ~= read_version then return 0 end

  for entry = 0, tonumber(ARGV[at + 4]) - 1 do
    local first = at + 5 + 3 * entry
    write_ledger(base, ARGV[first], ARGV[first + 1], ARGV[first + 2])
  end
  if prediction == '' then
    call('HSET', key, 'v', version, 't', TOKEN, 'b', blob)
  else
    call('HSET', key, 'v', version, 't', TOKEN, 'b', blob, 'p', prediction)
    made[#made + 1] = prediction
  end
  if not stored[1] then call('PEXPIRE', key, call('PTTL', base .. ':m')) end
  return 1
end

local replies = for_each(LINKS, commit_link)
if EVENTS then announce(EVENTS, TOKEN, made) end
return replies
