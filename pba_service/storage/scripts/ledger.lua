-- A day of a link's ledger. KEYS: links. ARGV[1]: the day. Answers for each link nothing, or its rows, then each model
-- version and the number that stands for it in the rows.
return for_each(#KEYS, function(i)
  local rows = call('GET', KEYS[i] .. ':l:' .. ARGV[1])
  if not rows then return false end
  return { rows, unpack(call('HGETALL', KEYS[i] .. ':v')) }
end)
