"""A package that Django finds by its name."""
