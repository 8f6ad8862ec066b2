"""Spline gates: the dealer's trees, which parties expand. In C (`gates.c`) where it was built, else in numpy: the same bits."""
