"""The servers that are measured: each the way its own documentation would have it."""
