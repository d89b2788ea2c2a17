"""What jobpush costs and how fast it is; ``make bench`` runs all of it and prints a table."""
