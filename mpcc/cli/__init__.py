"""The command line: prints, draws, exits with the right code. One file a command; nothing heavy is imported here."""

from .app import app, main

__all__ = ["app", "main"]
