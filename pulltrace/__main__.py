"""``python -m pulltrace``."""

import sys

from pulltrace.cli import main

if __name__ == "__main__":
    sys.exit(main())
