-- Begin or renew the lease of a worker.
-- KEYS: workers, claims of this one
-- ARGV: worker id, seconds of the lease, seconds that claims live, 1: also begin a lease that is not held
-- Returns 1 if the lease was held until now; 0 if it begins, has ended, or was lost: then say every claim anew.
local time = redis.call('TIME')
local now = time[1] + time[2] / 1000000
local lease_end = redis.call('ZSCORE', KEYS[1], ARGV[1])
local is_held = lease_end and tonumber(lease_end) > now
if is_held or ARGV[4] == '1' then
  redis.call('ZADD', KEYS[1], string.format('%.6f', now + ARGV[2]), ARGV[1])
  redis.call('EXPIRE', KEYS[2], ARGV[3])
end
return is_held and 1 or 0
