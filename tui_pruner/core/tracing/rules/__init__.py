"""What each aten operation does to labels, by kind of operation."""
