"""What is kept on this machine: where files live, how they are written whole, journals, sessions, settings, trust, and YAML."""
