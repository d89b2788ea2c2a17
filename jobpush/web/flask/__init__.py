"""The Flask extension and its routes."""
