-- Return up to limit claims of a dead gateway in one bucket. From now on its statements there are refused.
redis.call('SET', tombstone_key, '', 'EX', ttl)
return redis.call('SRANDMEMBER', claims_key, limit)
