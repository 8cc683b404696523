"""`python -m shop_services.notification` sends the e-mails about orders."""

import sys

from shop_services.notification.wiring import NAME, SERVICE, wire
from shop_services.runtime.serve import run

if __name__ == "__main__":
    sys.exit(run(NAME, wire, identity=SERVICE))
