-- Keep whose a workflow is for at least so long from now on.
-- KEYS: owner
-- ARGV: user id (escaped), seconds
if redis.call('TTL', KEYS[1]) < tonumber(ARGV[2]) then redis.call('SET', KEYS[1], ARGV[1], 'EX', ARGV[2]) end
