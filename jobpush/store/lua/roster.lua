-- Read the members of a presence channel.
-- Return {seq, flat list of user id and stored member}: the roster contains every announcement up to the seq.
return {try('GET', members_seq_key) or '0', try('HGETALL', members_key) or {}}
