"""What is done with any divergence: a wanted accuracy, a gradient, all pairs, one table."""
