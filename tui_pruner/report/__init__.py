"""A report about a plan: facts, then sections, then one HTML or Markdown file."""
