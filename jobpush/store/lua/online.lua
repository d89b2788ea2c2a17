-- Set the number of one gateway's connections that belong to a user, and of those subscribed to the user's channel.
-- Return {connections of all gateways, 0}, as occupy.lua does; or {-1, 0} if the gateway's lease has ended.
if count > 0 and is_dead() then return {-1, 0} end
return online()
