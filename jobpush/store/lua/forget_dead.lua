-- Forget a gateway or worker whose lease has ended. Return 1 if it has.
if has_lease(leases_key, holder) then return 0 end
return redis.call('ZREM', leases_key, holder)
