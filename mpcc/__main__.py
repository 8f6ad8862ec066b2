"""`python -m mpcc`: the command line."""

from mpcc.cli import main

if __name__ == "__main__":
    main()
