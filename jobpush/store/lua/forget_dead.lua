-- Forget a gateway or worker with an expired lease. Return 1 if it has expired.
if has_lease(leases_key, holder) then return 0 end
return redis.call('ZREM', leases_key, holder)
