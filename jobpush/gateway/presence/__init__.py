"""Presence: which users and members are there, over all gateways. First pure data, then the services that use it."""
