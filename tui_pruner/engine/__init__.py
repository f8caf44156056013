"""The engine process and its messages: what stands between the interface and the models."""
