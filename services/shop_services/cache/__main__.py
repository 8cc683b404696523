"""`python -m shop_services.cache` serves a cache."""

import sys

from shop_services.cache.wiring import NAME, wire
from shop_services.runtime.serve import run

if __name__ == "__main__":
    sys.exit(run(NAME, wire))
