"""The pruning engine itself: reads, traces, previews, cuts, proves and saves; knows nothing of any interface."""
