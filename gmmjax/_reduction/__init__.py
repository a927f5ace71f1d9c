"""The same mixture with fewer components."""
