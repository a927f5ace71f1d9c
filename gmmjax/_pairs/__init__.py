"""Components of one mixture against those of another: tables of all pairs."""
