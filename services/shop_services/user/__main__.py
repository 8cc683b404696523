"""`python -m shop_services.user` serves users."""

import sys

from shop_services.runtime.serve import run
from shop_services.user.wiring import NAME, wire

if __name__ == "__main__":
    sys.exit(run(NAME, wire))
