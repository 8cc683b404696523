"""`python -m campaigns`: see `campaigns.cli`."""

import sys

from campaigns.cli import main

if __name__ == "__main__":
    sys.exit(main())
