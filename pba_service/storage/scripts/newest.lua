-- The newest prediction of each link, or nothing. KEYS: links.
return for_each(#KEYS, function(i) return call('HGET', KEYS[i] .. ':s', 'p') end)
