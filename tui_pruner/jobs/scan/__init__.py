"""The sensitivity scan: its trials, where they run, and where their results are stored."""
