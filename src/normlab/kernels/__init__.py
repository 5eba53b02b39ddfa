"""Arrays in, arrays out: what computes a normalization, and which of them does."""
