-- Keep the owner of a workflow for at least this many seconds.
if redis.call('TTL', owner_key) < ttl then redis.call('SET', owner_key, user_id, 'EX', ttl) end
