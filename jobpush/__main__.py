"""``python -m jobpush`` is the ``jobpush`` command."""

from .cli.commands import main

main(prog_name="jobpush")
