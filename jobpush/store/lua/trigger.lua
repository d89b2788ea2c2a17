-- Publish an event that is no task's, keep it in the history, and tell who is there to hear it.
-- KEYS: topic, stream, floor, connections, cache
-- ARGV: header, members, history size, history ttl, cache ttl (0: no cache channel)
-- Returns {id, connections as a flat list of gateway id and number}.
local id = announce(KEYS[1], KEYS[2], KEYS[3], ARGV[1], ARGV[2], ARGV[3], ARGV[4])
if ARGV[5] ~= '0' then
  redis.call('SET', KEYS[5], id .. ' ' .. ARGV[1] .. '\n' .. ARGV[2], 'EX', ARGV[5])
end
return {id, redis.call('HGETALL', KEYS[4])}
