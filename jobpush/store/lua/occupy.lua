-- Set the number of one gateway's connections that are subscribed to a channel.
-- Return {connections of all gateways, milliseconds}: unless the latter is 0, the count was published a moment ago; call
-- again after that time. Or {-1, 0} if the gateway's lease has ended.
if count > 0 and is_dead() then return {-1, 0} end
return occupy()
