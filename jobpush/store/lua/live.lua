-- Read which gateways live.
-- KEYS: gateways
-- Returns {ids, number of those that died and are still to be reaped}.
return {
  redis.call('ZRANGEBYSCORE', KEYS[1], '(' .. string.format('%.6f', SECONDS), '+inf'),
  redis.call('ZCOUNT', KEYS[1], '-inf', string.format('%.6f', SECONDS)),
}
