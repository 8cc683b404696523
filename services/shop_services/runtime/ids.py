"""Ids of new things are random, and come from a function that is passed in."""

from __future__ import annotations

import uuid
from collections.abc import Callable

NewId = Callable[[], str]


def new_id() -> str:
    """32 random hex digits."""
    return uuid.uuid4().hex
