"""Tests of the exact rewrites."""
