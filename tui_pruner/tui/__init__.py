"""The terminal interface: Textual only; everything about models comes from the engine."""
