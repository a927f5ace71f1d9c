"""Mixtures as estimates from rows of data: fits, refits, and what they say of the populations."""
