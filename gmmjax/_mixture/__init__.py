"""The model: a mixture, its densities, how it is built, changed and kept."""
