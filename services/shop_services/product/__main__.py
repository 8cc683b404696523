"""`python -m shop_services.product` serves the catalog and its stock."""

import sys

from shop_services.product.wiring import NAME, wire
from shop_services.runtime.serve import run

if __name__ == "__main__":
    sys.exit(run(NAME, wire))
