"""The report on a plan: facts measured once, laid out as one document, written as HTML or Markdown."""
