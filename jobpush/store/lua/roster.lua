-- Read who is a member of a presence channel.
-- KEYS: members, seq of the roster
-- Returns {seq, flat list of user id and what is stored of him}: the roster holds every announcement up to the seq.
return {redis.call('GET', KEYS[2]) or '0', redis.call('HGETALL', KEYS[1])}
