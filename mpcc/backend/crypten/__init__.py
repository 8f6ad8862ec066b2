"""CrypTen: the stock engine, and the parties of mpcc's own. The only folder that imports it."""
