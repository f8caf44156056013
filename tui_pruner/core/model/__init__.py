"""A model looked at: its layers and blocks, its cost, what it predicts, copies of it, and a run that is recorded."""
