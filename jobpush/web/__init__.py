"""The web side: frameworks and servers around the gateway."""
