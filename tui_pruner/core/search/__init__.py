"""Which cuts reach a target: ladders of widths, what each rung costs, and the plans that compete."""
