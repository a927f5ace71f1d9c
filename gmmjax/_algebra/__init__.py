"""Mixtures out of mixtures that need more than a selection: given coordinates, products, sums."""
