"""`shop certs`: certificates for a shop with TLS on a machine of one's own."""

from __future__ import annotations

import argparse
import datetime
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

from shop_services.launch.errors import LaunchError

_DESCRIPTION = """
Makes an authority in DIR if there is none (ca.pem, ca.key), and new keys and certificates for every service and server,
in the place of those that are there. Whoever runs with SHOP_TLS_DIR=DIR takes them up within seconds. For development:
whoever can read DIR can be anybody.
"""


def add_commands(subparsers: Any) -> None:
    """Add `certs` to the commands of `shop`."""
    certs = subparsers.add_parser("certs", help="make or renew certificates for development", description=_DESCRIPTION)
    certs.add_argument("directory", metavar="DIR", type=Path, help="for SHOP_TLS_DIR")
    certs.add_argument("--days", type=_days, default=None, metavar="N", help="how long they are good (90)")
    certs.add_argument(
        "--host",
        action="append",
        default=[],
        type=_host,
        metavar="NAME=HOST",
        help="a host name or an address that NAME is reached at, beside the usual ones; may be repeated",
    )
    certs.set_defaults(run=_certs)


def _certs(options: argparse.Namespace) -> int:
    from shop_services.launch.certificates import DAYS, NAMES, make_certificates  # slow for `shop --help`

    hosts = defaultdict[str, list[str]](list)
    for name, host in options.host:
        if name not in NAMES:
            print(f"shop certs: --host: {name!r} is none of {', '.join(NAMES)}", file=sys.stderr)
            return 2
        hosts[name].append(host)
    days = DAYS if options.days is None else options.days
    try:
        make_certificates(options.directory, now=datetime.datetime.now(datetime.UTC), days=days, hosts=hosts)
    except ValueError as error:
        raise LaunchError(f"{options.directory}: {error}") from None
    print(f"{len(NAMES)} certificates of {options.directory / 'ca.pem'}, good for {days} days: {', '.join(NAMES)}")
    return 0


def _days(text: str) -> int:
    if not (text.isascii() and text.isdigit() and 1 <= int(text) <= 825):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1 to 825")
    return int(text)


def _host(text: str) -> tuple[str, str]:
    name, equals, host = text.partition("=")
    if not (name and equals and host and host.isascii()):
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=HOST")
    return name, host
