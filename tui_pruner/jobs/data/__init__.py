"""Data sets as jobs read them: checked first, and never written to."""
