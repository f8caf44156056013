"""A checkpoint looked at before it is loaded, while it is loaded, and before it runs."""
