-- Adds predictions to the stream of events. KEYS[1]: the stream. ARGV: its length, then the predictions.
for i = 2, #ARGV do call('XADD', KEYS[1], 'MAXLEN', '~', ARGV[1], '*', 'p', ARGV[i]) end
return #ARGV - 1
