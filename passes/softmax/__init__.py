"""Approximations of softmax."""
