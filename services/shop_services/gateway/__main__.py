"""`python -m shop_services.gateway` serves HTTP."""

import sys

from shop_services.gateway.process import DEFAULT_PORT, serve
from shop_services.gateway.wiring import NAME
from shop_services.runtime.serve import run_process

if __name__ == "__main__":
    sys.exit(run_process(NAME, serve, port=DEFAULT_PORT))
