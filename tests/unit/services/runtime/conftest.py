"""Logs are configured for a whole process; these tests put that back."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from io import StringIO

import pytest
import structlog

from shop_services.runtime import logs


@pytest.fixture
def log() -> Iterator[StringIO]:
    """What is logged meanwhile, as JSON lines."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    stream = StringIO()
    logs.configure("probe", "i1", stream=stream)
    yield stream
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()
