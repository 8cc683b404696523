"""Keys have names that tell whose and how old they are; one signs at a time, and many are good."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shop_services.runtime.identity.directory import KeyDirectory
from shop_services.runtime.identity.keys import (
    KNOWN_AFTER,
    SETTLED_AFTER,
    KeyName,
    MemoryKeys,
    PrivateKey,
    spent,
    to_sign_with,
)
from tests.unit.services.runtime.identity.clock import NOON, Clock

Made = MemoryKeys | KeyDirectory


def made_at(*seconds: float) -> list[KeyName]:
    return [KeyName.new("order", NOON + second, lambda count: "00" * count) for second in seconds]


def test_a_name_tells_whose_key_it_is_and_when_it_was_made() -> None:
    """The id is the time in UTC and random hex digits."""
    name = KeyName.new("order", 1_795_415_105.9, lambda count: "3f9c1a"[: count * 2])
    assert str(name) == "order.20261123T062505Z-3f9c1a"
    assert name.created == 1_795_415_105.0
    assert KeyName.of(name.owner, name.id) == name


@pytest.mark.parametrize(
    ("owner", "key_id"),
    [
        ("../private/identity", "20261123T062505Z-3f9c1a"),
        ("order", "../../etc/passwd"),
        ("order", "20261123T062505Z-3f9c1a\n"),
        ("order", "20261199T062505Z-3f9c1a"),
        ("", "20261123T062505Z-3f9c1a"),
        ("Order", "20261123T062505Z-3f9c1a"),
        ("o" * 64, "20261123T062505Z-3f9c1a"),
        (None, "20261123T062505Z-3f9c1a"),
        ("order", ["20261123T062505Z-3f9c1a"]),
    ],
)
def test_what_cannot_be_a_name_is_none(owner: object, key_id: object) -> None:
    """A token cannot name a file outside of the directory of keys, nor a time that no calendar has."""
    assert KeyName.of(owner, key_id) is None


@given(st.text(), st.text())
def test_no_name_leads_out_of_a_directory(owner: str, key_id: str) -> None:
    """Whatever is in a token, its key's file has no separator in its name."""
    name = KeyName.of(owner, key_id)
    assert name is None or not set(str(name)) & set("/\\\0")


def test_an_odd_owner_is_refused_by_name() -> None:
    """A key is not made for a name that none could be found under."""
    with pytest.raises(ValueError, match=r"'a/b' cannot own keys"):
        KeyName.new("a/b", NOON)


def test_a_new_key_signs_when_everybody_knows_it() -> None:
    """Until then the one before it does; the first of all signs at once."""
    first, second, third = made_at(-100, -50, -KNOWN_AFTER + 1)
    assert to_sign_with([third, first, second], NOON) == second
    assert to_sign_with([third, first, second], NOON + 1) == third
    assert to_sign_with([third], NOON) == third
    assert to_sign_with(made_at(-2, -1), NOON) == made_at(-2)[0]


def test_a_key_is_spent_when_its_last_token_has_expired() -> None:
    """The next key counts from when it surely signs; the newest is never spent, however old it is."""
    first, second = made_at(0, 1000)
    assert spent([second, first], 300, NOON + 1000 + SETTLED_AFTER + 300) == []
    assert spent([second, first], 300, NOON + 1001 + SETTLED_AFTER + 300) == [first]
    assert spent([second], 300, NOON + 1e9) == []


def test_the_first_key_is_made_when_it_is_needed(keys: Made) -> None:
    """It signs what its public half checks, and is the same from then on."""
    key = keys.signing("order")
    public = keys.public(key.name)
    assert public is not None
    public.key.verify(key.key.sign(b"text"), b"text")
    assert keys.signing("order").name == key.name
    assert [each.name for each in keys.published("order")] == [key.name]


def test_the_same_key_is_the_same_object(keys: Made) -> None:
    """So that what was checked with it can be remembered as long as it is trusted."""
    name = keys.signing("order").name
    assert keys.public(name) is keys.public(name)


def test_owners_have_keys_of_their_own(keys: Made, clock: Clock) -> None:
    """Nobody signs with another's key, and no key is found under another's name."""
    order = keys.signing("order").name
    clock.now += 1  # two keys of a second might have the same id, by chance
    cache = keys.signing("cache").name
    assert order.owner == "order"
    assert cache.owner == "cache"
    assert keys.public(KeyName("cache", order.id)) is None
    assert [key.name for key in keys.published("cache")] == [cache]


def test_rotation_goes_over_to_the_new_key(keys: Made, clock: Clock) -> None:
    """A new key is good at once and signs later; the old one stays good until it is removed."""
    old = keys.signing("order").name
    clock.now += 100
    keys.add("order")
    assert keys.signing("order").name == old
    clock.now += KNOWN_AFTER
    new = keys.signing("order").name
    assert new > old
    assert [key.name for key in keys.published("order")] == [old, new]
    keys.remove(old)
    assert keys.public(old) is None
    assert [key.name for key in keys.published("order")] == [new]


def test_no_key_is_ever_shown(keys: Made) -> None:
    """What is printed of keys names them, and no more."""
    key = keys.signing("order")
    for shown in (repr(key), repr(key.public), repr(keys), str(key)):
        assert "Ed25519" not in shown
        assert "PRIVATE" not in shown
    assert key.name.id in repr(PrivateKey.new(key.name))
