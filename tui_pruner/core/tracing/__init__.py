"""From a model to its coupling map: labels sent through its own forward, and the channels that live or die together."""
