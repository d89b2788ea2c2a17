-- Remove a member from a presence channel, on behalf of one gateway; the member's last gateway announces it.
-- Return 1 if the user is no longer a member, 0 if nothing has changed for the others.
return leave()
