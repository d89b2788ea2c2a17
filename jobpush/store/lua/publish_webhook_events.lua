-- Append an event for webhooks that concerns nothing else here.
-- KEYS: webhooks
-- ARGV: JSON of the event
tell_webhooks(KEYS[1], ARGV[1])
