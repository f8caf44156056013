"""From a model to its coupling map: labels follow every channel through the model's own forward, and coupled channels form groups."""
