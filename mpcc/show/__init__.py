"""Presentation: units, comparisons, tables, pictures, the report. Shared by the command line and the bundles."""
