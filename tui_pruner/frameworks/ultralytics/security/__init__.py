"""Checks of a checkpoint before it is loaded, while it is loaded, and before it runs."""
