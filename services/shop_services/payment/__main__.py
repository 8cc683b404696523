"""`python -m shop_services.payment` serves payments."""

import sys

from shop_services.payment.wiring import NAME, wire
from shop_services.runtime.serve import run

if __name__ == "__main__":
    sys.exit(run(NAME, wire))
