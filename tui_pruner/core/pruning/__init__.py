"""Cuts: which channels are removed, the cut itself, its proof, its preview, and the session of steps."""
