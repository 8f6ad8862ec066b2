"""`mpcc` and `python -m mpcc`: the command line, which a Ctrl-C ends in one line while it is being imported, too."""

import sys
from typing import NoReturn


def main() -> NoReturn:
    """The console script."""
    try:
        from mpcc.cli import main as command

        command()
    except KeyboardInterrupt:
        sys.stderr.write("interrupted; no partial output was written\n")
        sys.exit(130)


if __name__ == "__main__":
    main()
