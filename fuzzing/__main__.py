"""`python -m fuzzing`: see `fuzzing.cli`."""

import sys

from fuzzing.cli import main

if __name__ == "__main__":
    sys.exit(main())
