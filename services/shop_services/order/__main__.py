"""`python -m shop_services.order` serves orders."""

import sys

from shop_services.order.wiring import NAME, wire
from shop_services.runtime.serve import run

if __name__ == "__main__":
    sys.exit(run(NAME, wire))
