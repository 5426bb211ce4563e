"""The offline river, verb by verb: ``python -m distill --help``."""

import sys

from distill.cli import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
