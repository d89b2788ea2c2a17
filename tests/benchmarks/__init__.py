"""Benchmarks of jobpush and its peers; ``make bench`` runs them and writes docs/performance.md."""
