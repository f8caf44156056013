"""Pruning of any module: traces, previews, cuts, proves, recovers, searches; knows no interface and no library of models."""
