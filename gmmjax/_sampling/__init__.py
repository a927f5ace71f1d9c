"""Points: where an estimate looks, how it sums, and how sure it can be."""
