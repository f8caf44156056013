"""What is stored on this machine: paths, atomic writes, journals, sessions, settings, trust, and YAML."""
