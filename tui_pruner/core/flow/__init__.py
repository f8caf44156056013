"""Channel flow: labels that travel through the model's own operations and say which channels live or die together."""
