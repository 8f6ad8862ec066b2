"""The thin client by itself."""
