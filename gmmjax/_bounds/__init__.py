"""Bounds that always hold, and approximations from the literature."""
