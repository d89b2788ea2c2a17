"""The ``jobpush`` command: one file per family of commands, each a few lines over the public names."""

from .main import main

__all__ = ["main"]
