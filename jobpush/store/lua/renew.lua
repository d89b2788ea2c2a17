-- Begin or renew the lease of a gateway.
-- KEYS: gateways, epoch
-- ARGV: gateway id, seconds, epoch of which the gateway knows ("": it begins)
-- Returns {1 or 0, epoch}. 0: the lease is lost, and what the gateway said may be gone or taken back. If the epoch is
-- another one too, Redis has lost data; else others took the gateway for dead.

-- An epoch ends when Redis is emptied or restarted: it may come back with what it knew minutes ago.
local run_id = string.match(redis.call('INFO', 'server'), 'run_id:(%x+)') or ''
local lease_end = string.format('%.6f', SECONDS + ARGV[2])
local epoch = redis.call('GET', KEYS[2])
if not epoch or string.match(epoch, '^%x*') ~= run_id then
  epoch = string.format('%s-%.0f', run_id, MICROSECONDS)
  redis.call('SET', KEYS[2], epoch)
  -- The gateways of the past have time to come back before anybody takes back what they said.
  for _, gateway in ipairs(redis.call('ZRANGE', KEYS[1], 0, -1)) do
    redis.call('ZADD', KEYS[1], lease_end, gateway)
  end
end

local begins = ARGV[3] == ''
if not begins and (epoch ~= ARGV[3] or not has_lease(KEYS[1], ARGV[1])) then return {0, epoch} end
redis.call('ZADD', KEYS[1], lease_end, ARGV[1])
return {1, epoch}
