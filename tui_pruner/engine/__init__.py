"""The engine process and its messages: the layer between the interface and the models."""
