"""A product and its changes."""

from __future__ import annotations

from datetime import UTC, datetime

from shop_services.product.domain import Product
from shop_services.runtime.money import Money

_THEN = datetime(2026, 1, 1, tzinfo=UTC)
_NOW = datetime(2026, 1, 2, tzinfo=UTC)
_PEN = Product("p1", "PEN-1", "Pen", "Writes.", "office", Money("EUR", 250), _THEN, _THEN, position=3, revision=7)


def test_a_change_sets_the_fields_it_gives_and_no_others() -> None:
    """What a change does not give stays, and its time and revision are noted."""
    after = _PEN.changed({"price": Money("EUR", 300), "category": "desk"}, _NOW, revision=9)
    assert after == Product(
        "p1", "PEN-1", "Pen", "Writes.", "desk", Money("EUR", 300), _THEN, _NOW, position=3, revision=9
    )


def test_a_description_can_be_emptied() -> None:
    """An empty value is a value; only an absent one leaves a field alone."""
    assert _PEN.changed({"description": ""}, _NOW, revision=9).description == ""


def test_a_change_to_the_same_values_is_none() -> None:
    """Giving a product the values it has leaves its revision and its time as they are."""
    assert _PEN.changed({"name": "Pen", "price": Money("EUR", 250)}, _NOW, revision=9) is _PEN
