"""The command line, one file per command: parses options, prints tables and JSON, sets the exit code. Imports nothing heavy."""

from .app import app, main

__all__ = ["app", "main"]
