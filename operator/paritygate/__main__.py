"""`python -m paritygate`: the command line."""

import sys

from paritygate.cli import main

if __name__ == "__main__":
    sys.exit(main())
