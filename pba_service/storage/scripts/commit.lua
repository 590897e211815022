-- Writes states, newest predictions and ledger rows. KEYS: links, then, where one server holds everything, the stream of
-- events. ARGV: links, floor_ms (what was measured before has expired), now_ms, ledger_retention_ms, a token of this
-- commit, then for each link the version it was computed from, the version it gets, blob, prediction (empty: none), and
-- one text: a byte that is 1 where it is known that its newest sample has not expired, and its ledger entries (each: day
-- as uint32, length of the model version as uint16, the model version, row). Answers for each link 1, or 0 when the stored
-- version is another one: then nothing of it is written.
local LINKS, FLOOR, NOW, RETENTION = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local TOKEN, EVENTS = ARGV[5], KEYS[LINKS + 1]
local made = {}

-- The number that stands for a model version in the ledger rows of a link. The numbers outlive every row that was written
-- with them.
local function model_number(base, version, ttl)
  local key = base .. ':v'
  local number = call('HGET', key, version)
  if not number then
    number = call('HLEN', key)
    call('HSET', key, version, number)
  end
  if call('PTTL', key) < ttl then call('PEXPIRE', key, string.format('%.0f', ttl)) end
  return tonumber(number) or error(FOREIGN .. 'the number of a model version')
end

-- Writes a row; `model` is the number and the model version of the row before, if that is known, as 4 bytes and the text.
-- Returns this row's.
local function write_ledger(base, version, day, row, model)
  local ttl = (day + 1) * DAY_MS + RETENTION - NOW
  if ttl <= 0 then return model end
  local key = base .. ':l:' .. day
  local last = call('GETRANGE', key, -LEDGER_BYTES, -1)
  -- Where there is a row of this day already, the number that the link used last is still known to its readers.
  if last == '' or not model or #model ~= 4 + #version or sub(model, 5) ~= version then
    model = pack('<I4', model_number(base, version, ttl)) .. version
  end
  row = sub(row, 1, LEDGER_BYTES - 4) .. sub(model, 1, 4)
  if #last == LEDGER_BYTES and offset_of(last, 0, LEDGER_BYTES) < offset_of(row, 0, LEDGER_BYTES)
    and offset_of(row, 0, LEDGER_BYTES) < DAY_MS then
    call('APPEND', key, row)
  else
    merge(key, DAY_MS, 0, row, LEDGER_BYTES, {})
    if last == '' then call('PEXPIRE', key, string.format('%.0f', ttl)) end
  end
  return model
end

local function commit_link(i)
  local base, at = KEYS[i], 5 * i + 1
  local read_version, version, blob, prediction, more = ARGV[at], ARGV[at + 1], ARGV[at + 2], ARGV[at + 3], ARGV[at + 4]
  local key = base .. ':s'
  local stored = call('HMGET', key, 'v', 't', 'm')
  -- A link whose last sample has expired is not written. What was learned of it ends with its samples.
  if (not stored[1] or byte(more) == 0) and not alive(base, FLOOR) then return 0 end
  local current = stored[1] or '0'
  if current == version and stored[2] == TOKEN then return 1 end -- its answer was lost, and it came again
  if current ~= read_version then return 0 end

  local model, position = stored[3], 2
  while position <= #more do
    local day, length, row_at = unpack_at('<I4I2', more, position)
    position = row_at + length + LEDGER_BYTES
    model = write_ledger(base, sub(more, row_at, row_at + length - 1), day, sub(more, row_at + length, position - 1), model)
  end
  local fields = { 'v', version, 't', TOKEN, 'b', blob }
  if prediction ~= '' then
    fields[7], fields[8] = 'p', prediction
    made[#made + 1] = prediction
  end
  if model ~= stored[3] then
    fields[#fields + 1], fields[#fields + 2] = 'm', model
  end
  call('HSET', key, unpack(fields))
  if not stored[1] then call('PEXPIRE', key, call('PTTL', base .. ':m')) end
  return 1
end

local replies = for_each(LINKS, commit_link)
if EVENTS then announce(EVENTS, TOKEN, made) end
return replies
