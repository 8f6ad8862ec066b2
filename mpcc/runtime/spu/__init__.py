"""SecretFlow SPU as a second engine, for comparison: nn- and mpc-level graphs under its simulation, with its counters."""
