"""Products, factors and distances of batches of matrices, whatever structure scales have."""
