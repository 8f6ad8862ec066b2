"""Running a program: the parties, the dealer, the transport between them."""
