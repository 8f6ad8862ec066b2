"""The dealer: correlated randomness, made, delivered and consumed."""
