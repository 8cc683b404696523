"""Waits of the product that are no subject of a test, made longer: a busy machine is not what it is about."""

from __future__ import annotations

import pytest

from shop_services.storage import database, engine


def patient_storage(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    """Who waits for a turn at the database does so for so many seconds before it is refused."""
    for module in (database, engine):
        monkeypatch.setattr(module, "WAIT", seconds)
