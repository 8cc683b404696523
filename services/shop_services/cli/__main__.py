"""`python -m shop_services.cli` is `shop`."""

import sys

from shop_services.cli import main

if __name__ == "__main__":
    sys.exit(main())
