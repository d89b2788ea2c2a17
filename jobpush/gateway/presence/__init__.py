"""Presence of users and members over all gateways: pure data, and the services that use it."""
