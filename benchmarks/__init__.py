"""Comparisons with other programs, run by hand; their tables are in `docs/`."""
