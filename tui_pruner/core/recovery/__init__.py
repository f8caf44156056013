"""Recover the accuracy of a cut network without labels: refit its layers, re-estimate its statistics, keep what comes closest to the original."""
