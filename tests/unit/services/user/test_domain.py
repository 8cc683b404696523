"""What a user is."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from shop_services.runtime.identity.caller import Role
from shop_services.user.domain import NewUser, User, uniqueness_key

THEN = datetime(2026, 1, 1, tzinfo=UTC)
ANN = User("u1", "ann@example.com", "ann", "Ann", {"a": 1}, Role.CUSTOMER, 1, THEN, THEN)


def test_a_change_touches_what_it_names_and_counts() -> None:
    """Other fields stay, the version grows by one, and the time of the change is noted."""
    later = THEN + timedelta(hours=1)
    changed = ANN.changed({"email": "ann@example.org", "display_name": ""}, later)
    assert changed == User("u1", "ann@example.org", "ann", "", {"a": 1}, Role.CUSTOMER, 2, THEN, later)
    assert ANN.version == 1


def test_names_that_differ_only_in_case_are_the_same() -> None:
    """For ASCII, and beyond."""
    assert uniqueness_key("Ann@Example.COM") == uniqueness_key("ANN@example.com")
    assert uniqueness_key("STRASSE") == uniqueness_key("straße")
    assert uniqueness_key("ann") != uniqueness_key("anna")


def test_a_password_is_not_shown() -> None:
    """A new user may end up in a log line; the password does not."""
    assert "swordfish" not in repr(NewUser("a@b.c", "ann", "swordfish", "", {}))
