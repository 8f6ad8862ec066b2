"""Plug-ins: one file a protocol. Found by mpcc.registry."""
