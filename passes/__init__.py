"""Plug-ins, one file per approximation or pass; found by mpcc.registry, never imported by name."""
