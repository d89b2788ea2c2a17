-- Return {ids of the live gateways, number of dead ones with unretracted statements}.
local now = string.format('%.6f', SECONDS)
return {
  redis.call('ZRANGEBYSCORE', gateways_key, '(' .. now, '+inf'),
  redis.call('ZCOUNT', gateways_key, '-inf', now),
}
