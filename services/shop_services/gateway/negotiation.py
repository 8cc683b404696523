"""Which of several types to answer with, by a request's Accept header (RFC 9110, section 12.5.1)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence

from google.rpc import code_pb2

from shop_services.gateway.errors import Refusal

_TOKEN = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"  # noqa: S105  # no secret: RFC 9110's word for a word
_RANGE = re.compile(rf"\s*({_TOKEN}/{_TOKEN})\s*((?:;[^,]*)?)", re.IGNORECASE)
_QUALITY = re.compile(r";\s*q=(0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?)\s*(?=;|$)", re.IGNORECASE)
_ANY_QUALITY = re.compile(r";\s*q\s*=", re.IGNORECASE)


def chosen(headers: Iterable[tuple[bytes, bytes]], offered: Sequence[str]) -> str:
    """The type among `offered` that the client likes best; of equals one that it names, then the first.

    Without an Accept header it is the first. Parameters of types are not looked at, but for `q`.

    Raises:
        Refusal: none of them is acceptable (406), or the header is malformed (400).
    """
    accept = b",".join(value for name, value in headers if name == b"accept").decode("latin-1")
    if not accept.strip():
        return offered[0]
    ranges = dict(_ranges(accept))
    best, best_rank = "", (0.0, 0)
    for media in offered:
        if (rank := _rank(media, ranges)) > best_rank and rank[0] > 0:
            best, best_rank = media, rank
    if not best:
        what = f"the answer can be {' or '.join(offered)}, and the Accept header takes none of them"
        raise Refusal.of(code_pb2.INVALID_ARGUMENT, what, http_status=406)
    return best


def _rank(media: str, ranges: dict[str, float]) -> tuple[float, int]:
    """The quality of the most precise range that `media` is in, and how precise that is."""
    for precision, known in ((3, media), (2, f"{media.partition('/')[0]}/*"), (1, "*/*")):
        if known in ranges:
            return ranges[known], precision
    return 0.0, 0


def _ranges(accept: str) -> Iterator[tuple[str, float]]:
    for element in accept.split(","):
        if not element.strip():
            continue  # RFC 9110, section 5.6.1.2: empty elements of a list are nothing
        match = _RANGE.fullmatch(element)
        quality = _QUALITY.search(match[2]) if match else None
        if match is None or (quality is None and _ANY_QUALITY.search(match[2])):
            raise Refusal.of(code_pb2.INVALID_ARGUMENT, f"header accept: {element.strip()[:100]!r} is no media range")
        yield match[1].lower(), float(quality[1]) if quality else 1.0
