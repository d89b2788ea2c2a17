-- Return the ids of the workers with an expired lease.
return redis.call('ZRANGEBYSCORE', workers_key, '-inf', string.format('%.6f', SECONDS))
