"""SecretFlow SPU as a second engine: circuits run by its parties, and its counters under simulation, for the cost models."""
