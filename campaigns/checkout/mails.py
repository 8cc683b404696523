"""The e-mails that have arrived at the mail server."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

from shop_services.notification.mailbox import listed, read

_ORDER = re.compile(r"<order-(.+)@")


def arrived(mailbox: Path) -> Counter[str]:
    """How many e-mails there are about each order, by its id, which is part of the Message-ID."""
    found = Counter[str]()
    for path in listed(mailbox):
        if match := _ORDER.match(str(read(path, headers_only=True)["Message-ID"])):
            found[match[1]] += 1
    return found
