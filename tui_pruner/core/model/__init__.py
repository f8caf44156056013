"""Models: layers and blocks, FLOPs and parameters, predictions, copies, latency, and recorded forwards."""
