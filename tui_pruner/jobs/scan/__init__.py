"""The sensitivity scan: trials, who runs them, and where their results are kept."""
