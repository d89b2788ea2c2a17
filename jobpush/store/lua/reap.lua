-- Find what is to be taken back of gateways whose lease has ended; forget those of whom nothing is left.
-- KEYS: gateways
-- ARGV: prefix of the keys of claims, claims of one gateway at once
-- Returns a list of {gateway id, claims}. The claims are picked at random, so several who reap share the work.
local found = {}
for _, gateway in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', SECONDS)) do
  local claims = redis.call('SRANDMEMBER', ARGV[1] .. gateway, ARGV[2])
  if #claims > 0 then
    found[#found + 1] = {gateway, claims}
  else
    redis.call('ZREM', KEYS[1], gateway)
  end
end
return found
