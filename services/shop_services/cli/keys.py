"""`shop keys` and `shop token`: the keys that tokens are signed with, and a token for who runs the shop."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from shop_services.cli.data import add_data_flag, settings_of
from shop_services.cli.tables import print_table
from shop_services.launch.commands import OWNERS
from shop_services.launch.errors import LaunchError
from shop_services.runtime.settings import SettingError, Settings

if TYPE_CHECKING:
    from shop_services.runtime.identity.directory import KeyDirectory
    from shop_services.runtime.identity.keys import KeyName

_WHERE = "is this the data directory of the shop that runs (SHOP_DATA, SHOP_KEYS_DIR)?"

_DESCRIPTION = """
The keys in SHOP_KEYS_DIR, or in the directory `keys` of SHOP_DATA. `init` makes the first ones. `rotate` makes a new
key, which signs after 15 seconds; what the old ones signed stays good, and `prune` removes those whose last token has
expired. No process needs a restart.
"""
_OPERATOR = """
Prints an access token, signed with the key in SHOP_KEYS_DIR or SHOP_DATA: whoever can read that key runs the shop. It
goes into the header `Authorization: Bearer TOKEN`.
"""


def add_commands(subparsers: Any) -> None:
    """Add `keys` with its commands, and `token`, to those of `shop`."""
    keys = subparsers.add_parser("keys", help="look after the keys that sign tokens", description=_DESCRIPTION)
    actions = keys.add_subparsers(dest="action", required=True, metavar="ACTION")

    ls = actions.add_parser("ls", help="list them, oldest first for each owner")
    ls.add_argument("-o", "--output", choices=("table", "json"), default="table", help="for people, or for programs")
    ls.set_defaults(run=_ls)

    init = actions.add_parser("init", help="make a first key of each owner that has none")
    init.set_defaults(run=_init)

    rotate = actions.add_parser("rotate", help="make a new key of each owner named")
    rotate.add_argument("owners", nargs="+", choices=OWNERS, metavar="OWNER", help=", ".join(OWNERS))
    rotate.set_defaults(run=_rotate)

    prune = actions.add_parser("prune", help="remove the keys of which no good token can be left")
    prune.set_defaults(run=_prune)
    add_data_flag(ls, init, rotate, prune)

    token = subparsers.add_parser("token", help="print an access token", description=_OPERATOR)
    token.add_argument("--role", choices=("admin", "customer"), default="admin", help="(admin)")
    token.add_argument("--user", default="", metavar="ID", help="the id of an account; a customer needs one")
    token.add_argument("--ttl", metavar="S", help="seconds that it is good (SHOP_ACCESS_TTL)")
    add_data_flag(token)
    token.set_defaults(run=_token)


def _ls(options: argparse.Namespace) -> int:
    keys = _keys_that_are_there(settings_of(options))
    rows = _rows(keys, time.time())
    if options.output == "json":
        print(json.dumps({"keys": rows}, indent=2))
        return 0
    lines = [(row["owner"], row["id"], row["created"], row["state"], "yes" if row["private"] else "no") for row in rows]
    print_table(("OWNER", "KEY", "CREATED", "STATE", "PRIVATE HERE"), lines)
    return 0


def _init(options: argparse.Namespace) -> int:
    keys = _keys(settings_of(options), make=True)
    there = keys.private_names()
    for owner in OWNERS:
        if (name := keys.signing(owner).name) not in there:
            print(name)
    return 0


def _rotate(options: argparse.Namespace) -> int:
    from shop_services.runtime.identity.keys import KNOWN_AFTER

    keys = _keys_that_are_there(settings_of(options), "`shop keys init` makes the first ones, or ")
    there = {name.owner for name in keys.private_names()}
    for owner in dict.fromkeys(options.owners):
        begins = f"in {KNOWN_AFTER:.0f} s" if owner in there else "at once"
        print(f"{keys.add(owner).name} signs {begins}")
    return 0


def _prune(options: argparse.Namespace) -> int:
    from shop_services.runtime.identity.authority import SERVICE_TTL
    from shop_services.runtime.identity.keys import IDENTITY, spent

    settings = settings_of(options)
    keys = _keys_that_are_there(settings)
    pruned = False
    for owner in dict.fromkeys(name.owner for name in keys.names()):
        longest = max(settings.access_ttl, settings.refresh_ttl) if owner == IDENTITY else SERVICE_TTL
        for name in spent(keys.names(owner), longest, time.time()):
            keys.remove(name)
            print(name)
            pruned = True
    if not pruned:
        print("nothing to prune: of every key, good tokens may be left")
    return 0


def _token(options: argparse.Namespace) -> int:
    from shop_services.runtime.identity.caller import Role
    from shop_services.runtime.identity.issuing import Issuer
    from shop_services.runtime.operator import OPERATOR

    settings = settings_of(options)
    role = Role(options.role)
    if role is Role.CUSTOMER and not options.user:
        raise SettingError("--user", "must be given for a customer")
    ttl = settings.access_ttl if options.ttl is None else _seconds(options.ttl, settings.refresh_ttl)
    refuse_without_key(settings)
    issuer = Issuer(_keys(settings), settings.access_ttl, settings.refresh_ttl)
    print(issuer.access(options.user or OPERATOR.id, role, ttl).token)
    return 0


def refuse_without_key(settings: Settings) -> None:
    """Raise `LaunchError` if there is no key for the operator's tokens; the shop would not know a new one."""
    from shop_services.runtime.identity.keys import IDENTITY, MissingKey

    try:
        _keys(settings).signing(IDENTITY)
    except MissingKey as error:
        raise LaunchError(f"{error}: {_WHERE}") from error


def _keys_that_are_there(settings: Settings, advice: str = "") -> KeyDirectory:
    """The keys; raises `LaunchError` if there is not even a directory, for this is then hardly the right place."""
    if not settings.keys.is_dir():
        raise LaunchError(f"there are no keys in {settings.keys}: {advice}{_WHERE}")
    return _keys(settings)


def _keys(settings: Settings, *, make: bool = False) -> KeyDirectory:
    from shop_services.runtime.identity.directory import KeyDirectory

    return KeyDirectory(settings.keys, make=make)


def _rows(keys: KeyDirectory, now: float) -> list[dict[str, Any]]:
    private = keys.private_names()
    return [_row(name, private, now) for name in sorted({*keys.names(), *private})]


def _row(name: KeyName, private: Sequence[KeyName], now: float) -> dict[str, Any]:
    from shop_services.runtime.identity.keys import to_sign_with

    signing = [other for other in private if other.owner == name.owner]
    chosen = to_sign_with(signing, now) if signing else None
    newer = chosen is not None and name.id > chosen.id
    state = "signs" if name == chosen else "new" if newer else "checks"
    created = datetime.fromtimestamp(name.created, UTC).isoformat()
    return {"owner": name.owner, "id": name.id, "created": created, "state": state, "private": name in private}


def _seconds(text: str, most: float) -> float:
    """No longer than a refresh token, which is what `prune` reckons with."""
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 1 <= seconds <= most:
        raise SettingError("--ttl", f"must be seconds, from 1 to {most:,.0f} (SHOP_REFRESH_TTL)")
    return seconds
