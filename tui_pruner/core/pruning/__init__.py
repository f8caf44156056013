"""Cuts: which channels go, the cut itself, its proof, its preview, and the session of steps."""
