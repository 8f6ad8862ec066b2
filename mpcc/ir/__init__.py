"""The operators of the three levels, their verifiers and interpreters."""
