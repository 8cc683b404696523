"""How far the catalog had come when something was read or changed, for callers to carry from one instance to another.

A mutation answers with the position at which it was done, in the initial metadata `catalog-revision`. A read that
sends it back is answered as of that position or a later one, whichever instance answers it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from shop_services.runtime.errors import InvalidArgument

REVISION = "catalog-revision"
"""The metadata key of a position: what a mutation was done at, what a read asks for, where a watch begins."""

_TEXT = re.compile(r"([0-9]{1,18})(?:-([0-9]{1,18}))?")


@dataclass(frozen=True, slots=True)
class Position:
    """The latest change of the catalog, and the latest record of those that wait to be written to it, if any do."""

    revision: int = 0
    pending: int = 0

    def __str__(self) -> str:
        return f"{self.revision}-{self.pending}" if self.pending else str(self.revision)


ANY = Position()
"""Asks for nothing: whatever is within the bound of staleness will do."""


def read_position(text: str | bytes) -> Position:
    """The position that a caller sent. Raises `InvalidArgument` if it is none; the metadata key is named."""
    match = _TEXT.fullmatch(text) if isinstance(text, str) else None
    if match is None:
        raise InvalidArgument.of(REVISION, "is not a value that this service answered a change with")
    return Position(int(match[1]), int(match[2] or 0))
