"""Percent-encoding, undone strictly: what cannot be decoded is an error, never a guess."""

from __future__ import annotations

import re
from urllib.parse import unquote

_BROKEN = re.compile(r"%(?![0-9A-Fa-f]{2})")


class InvalidEscape(ValueError):
    """Text cannot be decoded; the message says why."""


def unescape(text: str, *, keep_slash: bool = False) -> str:
    """`text` decoded; `keep_slash` leaves %2F and %2f as they are.

    Raises:
        InvalidEscape: an escape is broken, or the bytes are not UTF-8.
    """
    if "%" not in text:
        return text
    if broken := _BROKEN.search(text):
        raise InvalidEscape(f"{text[broken.start() : broken.start() + 3]!r} is not a percent-encoded character")
    if keep_slash:
        text = text.replace("%2F", "%252F").replace("%2f", "%252f")
    try:
        return unquote(text, errors="strict")
    except UnicodeDecodeError:
        raise InvalidEscape("the percent-encoded characters are not UTF-8") from None
