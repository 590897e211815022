-- Adds predictions to the stream of events. KEYS[1]: the stream. ARGV: who announces, then the predictions.
local predictions = {}
for i = 2, #ARGV do predictions[i - 1] = ARGV[i] end
announce(KEYS[1], ARGV[1], predictions)
return #predictions
