"""Optimal transport between the components of mixtures: distances, matches, maps and means."""
