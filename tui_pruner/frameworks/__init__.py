"""Where models come from, and what can be done with them: one package for each library of models."""
