"""A report on a plan: facts, then sections, then one HTML or Markdown file."""
