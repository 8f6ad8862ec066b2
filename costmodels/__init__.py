"""Plug-ins, one file per protocol; found by mpcc.registry, never imported by name."""
