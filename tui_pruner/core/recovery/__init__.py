"""Recover the accuracy of a cut network without labels: refit its layers, and keep what comes closest to the original."""
