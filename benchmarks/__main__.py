"""`python -m benchmarks`: see `benchmarks.cli`."""

import logging
import sys

from benchmarks.cli import main

if __name__ == "__main__":
    logging.basicConfig(level=logging.ERROR)  # servers that fail on purpose are no news
    sys.exit(main())
