"""Recovery of a cut model without labels: refits in closed form, recalibration, and the damage of a width."""
