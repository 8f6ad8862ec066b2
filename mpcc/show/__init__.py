"""Presentation shared by the command line and the bundles: units, comparisons, plots, the report."""
