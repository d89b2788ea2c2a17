-- Return the ids of the workers whose lease has ended.
return redis.call('ZRANGEBYSCORE', workers_key, '-inf', string.format('%.6f', SECONDS))
