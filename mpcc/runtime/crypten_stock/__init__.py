"""CrypTen's own functions as the baseline engine."""
