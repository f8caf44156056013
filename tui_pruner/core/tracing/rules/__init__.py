"""Rules that propagate channel labels through aten operations, by kind of operation."""
