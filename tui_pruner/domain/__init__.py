"""What every process says: cuts, criteria, results, errors, and how they are written. The standard library only."""
