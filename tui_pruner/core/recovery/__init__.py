"""A cut model brought back to its original without labels: refits in closed form, and what a width costs."""
