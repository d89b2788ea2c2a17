"""``python -m jobpush`` runs the ``jobpush`` command."""

from .cli import main

main(prog_name="jobpush")
