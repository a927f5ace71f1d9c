"""Mixtures out of mixtures by more than a selection, and what is asked of one on the line."""
