"""Plug-ins: one file an approximation, a fusion, a fold. Found by mpcc.registry."""
