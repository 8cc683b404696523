"""Pages of a list: how long they are, and the opaque tokens that ask for the next.

A token holds the sort key of the last item shown, so that what is added or removed meanwhile neither repeats nor hides
an item. It is bound to the query it was made for. Its checksum is no secret: it catches what was cut, garbled or edited
by mistake; a token grants nothing that a query would not.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Generic, TypeVar

from shop_services.runtime.errors import InvalidArgument

DEFAULT_SIZE = 50
MAX_SIZE = 1000
MAX_PAGE_BYTES = 3 * 1024 * 1024  # gRPC takes messages of 4 MiB unless it is told otherwise
MAX_TOKEN = 1024

_VERSION = 1
_CHECKSUM = 8

T = TypeVar("T")
U = TypeVar("U")
Part = str | int | datetime
Cursor = tuple[Part, ...]


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """Some items of a list in its order; `next_token` asks for those after them, and is empty on the last page."""

    items: tuple[T, ...]
    next_token: str = ""


def page_size(requested: int) -> int:
    """How many items a page has at most if `requested` were asked for: 0 means 50.

    Raises:
        InvalidArgument: it is negative or over 1,000.
    """
    if not 0 <= requested <= MAX_SIZE:
        raise InvalidArgument.of("page_size", f"must be from 0 to {MAX_SIZE:,}")
    return requested or DEFAULT_SIZE


def make_page(
    found: Sequence[T],
    size: int,
    query: Mapping[str, str | int],
    cursor: Callable[[T], Cursor],
    weigh: Callable[[T], int],
) -> Page[T]:
    """The page of `found`, which the caller read with a limit of `size + 1`: one more item means one more page.

    `query` is what the list was filtered by, `{"list": "users"}` at least; `cursor` gives an item's sort key, and
    `weigh` about how many bytes it takes in a response. A page too large for one message ends early (AIP-158).
    """
    total = count = 0
    for item in found[:size]:
        total += weigh(item)
        if total > MAX_PAGE_BYTES and count:
            break
        count += 1
    items = tuple(found[:count])
    return Page(items, make_token(cursor(items[-1]), query) if len(found) > count else "")


def make_token(cursor: Cursor, query: Mapping[str, str | int]) -> str:
    """The token that continues after `cursor`."""
    parts = [part.isoformat() if isinstance(part, datetime) else part for part in cursor]
    body = json.dumps([_VERSION, *parts], separators=(",", ":")).encode()
    return base64.urlsafe_b64encode(_checksum(body, query) + body).rstrip(b"=").decode()


def read_token(token: str, query: Mapping[str, str | int], kinds: tuple[type[Part], ...]) -> tuple[Any, ...] | None:
    """The cursor in `token`, whose parts are of `kinds`; None for the empty token, which asks for the first page.

    Raises:
        InvalidArgument: it is not one of our tokens, or was made for another query; `page_token` is named.
    """
    if not token:
        return None
    try:
        if len(token) > MAX_TOKEN or "+" in token or "/" in token:  # b64decode takes these two for - and _ as well
            raise ValueError
        raw = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
        checksum, body = raw[:_CHECKSUM], raw[_CHECKSUM:]
        if checksum != _checksum(body, query):
            raise ValueError
        version, *parts = json.loads(body)
        if version != _VERSION:
            raise ValueError
        return tuple(_part(part, kind) for part, kind in zip(parts, kinds, strict=True))
    except (ValueError, TypeError, binascii.Error, RecursionError):
        description = "is not a token that this list returned for the same query; leave it empty for the first page"
        raise InvalidArgument.of("page_token", description) from None


def _part(part: object, kind: type[Part]) -> Part:
    """`part` if a database can compare with it; the checksum keeps nobody from making up a token."""
    if kind is int and type(part) is int and -(2**63) <= part < 2**63:
        return part
    if kind is str and isinstance(part, str) and "\0" not in part:
        part.encode()  # a ValueError for half of a surrogate pair
        return part
    if kind is datetime and isinstance(part, str) and (time := datetime.fromisoformat(part)).tzinfo is not None:
        return time
    raise ValueError


def _checksum(body: bytes, query: Mapping[str, str | int]) -> bytes:
    text = json.dumps(sorted(query.items())).encode()
    return hashlib.blake2b(body, digest_size=_CHECKSUM, key=hashlib.blake2b(text, digest_size=32).digest()).digest()
