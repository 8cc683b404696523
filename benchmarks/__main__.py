"""`python -m benchmarks`: see `benchmarks.cli`."""

import logging
import sys

import structlog

from benchmarks.cli import main

if __name__ == "__main__":
    logging.basicConfig(level=logging.ERROR)  # servers that fail on purpose are no news
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    sys.exit(main())
