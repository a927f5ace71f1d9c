"""Variational inference: mixtures fitted to densities that are known up to a constant."""
