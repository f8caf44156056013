"""Which cuts reach a target: ladders of what can go, what each rung costs in accuracy, and the way down them."""
