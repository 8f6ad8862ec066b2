"""Running a program: the executable, the engine, the parties, the dealer, and the network between them."""
