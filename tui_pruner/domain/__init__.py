"""What all processes share: cuts, criteria, results, errors, and how they are written. Standard library only."""
