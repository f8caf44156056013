"""Background jobs: each runs in a process of its own on (checkpoint, plan, parameters) and can be killed at any moment."""
