"""mpcc: a compiler for private inference of Vision Transformers."""
