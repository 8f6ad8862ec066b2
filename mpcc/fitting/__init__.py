"""Curve fitting, numbers only: minimax polynomials, splines, factor chains, short exponentials, corrections."""
