"""The engine: one party's local work on an online program, and its emulation without parties."""
