-- Makes an uploaded model visible, whole, at once. KEYS[1]: the catalogue, KEYS[2..]: its parts. ARGV: the version, what
-- it says of itself, its checksum. Answers 1 when it is there now, 0 when parts are missing, 2 when another model is
-- published under this version.
local known = call('HGET', KEYS[1], ARGV[1] .. ':c')
if known and known ~= ARGV[3] then return 2 end
for i = 2, #KEYS do if call('EXISTS', KEYS[i]) == 0 then return 0 end end
for i = 2, #KEYS do call('PERSIST', KEYS[i]) end
call('HSET', KEYS[1], ARGV[1], ARGV[2], ARGV[1] .. ':c', ARGV[3])
return 1
