"""Who has which key: the same for all, and said in a header that can be sent."""

from __future__ import annotations

from urllib.parse import unquote

from hypothesis import given
from hypothesis import strategies as st

from grpc_balancer.pickers import policies
from grpc_registry import Instance
from grpc_registry.service_config import parse_balancing
from shop_services.caching.ring import _RING, POLICY, Ring, key_header

KEYS = [f"product/{number}" for number in range(3000)]


def instances(*names: str, weight: int = 100) -> list[Instance]:
    return [Instance("cache", f"10.0.0.1:{port}", id=name, weight=weight) for port, name in enumerate(names, start=1)]


def owners(*names: str) -> dict[str, str]:
    ring = Ring(instances(*names))
    return {key: owner.id for key in KEYS if (owner := ring.owner("default", key)) is not None}


def moved(before: dict[str, str], after: dict[str, str]) -> set[tuple[str, str]]:
    return {(before[key], after[key]) for key in KEYS if before[key] != after[key]}


def test_the_policy_is_the_ring() -> None:
    """What channels are told and what instances go by are the same settings."""
    assert parse_balancing(POLICY, policies()).settings == _RING


def test_these_keys_have_these_owners() -> None:
    """In every process, release and machine: a change would lose every cache, and split one that is being updated."""
    assert [owners("a", "b", "c")[key] for key in KEYS[:8]] == list("bcbcccba")


def test_one_that_comes_or_goes_moves_its_share_only() -> None:
    """From one to two and on: at most 1.5 of a fair share, and nothing between those that stay."""
    for number in range(1, 9):
        names = [f"i{each}" for each in range(number + 1)]
        before, after = owners(*names[:-1]), owners(*names)
        assert {to for _, to in moved(before, after)} == {names[-1]}
        assert sum(before[key] != after[key] for key in KEYS) <= 1.5 * len(KEYS) / len(names)


def test_who_leaves_itself_out_finds_the_same_owners_of_the_rest() -> None:
    """As instances do for the channel to the others."""
    everybody = owners("a", "b", "c")
    others = owners("b", "c")
    assert all(others[key] == owner for key, owner in everybody.items() if owner != "a")


def test_the_order_does_not_matter_and_nobody_has_nothing() -> None:
    """A ring is told by its members alone; an empty one has no owners."""
    assert owners("c", "a", "b").keys() == set(KEYS)
    first, second = Ring(instances("a", "b")), Ring(instances("a", "b")[::-1])
    assert first.members == second.members != Ring(instances("a", "b", weight=50)).members
    assert [first.owner("n", key) for key in KEYS] == [second.owner("n", key) for key in KEYS]
    assert Ring().owner("n", "k") is None


def test_a_namespace_counts() -> None:
    """Keys of the same name in two namespaces have owners of their own."""
    ring = Ring(instances("a", "b"))
    assert any(ring.owner("one", key) != ring.owner("two", key) for key in KEYS)


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=1024))
def test_any_key_can_be_sent(key: str) -> None:
    """As printable ASCII without spaces at its ends, from which the key can be read again."""
    name, value = key_header("n", key)
    assert name == "x-cache-key"
    assert all("!" <= character <= "~" for character in value)
    assert unquote(value) == f"n/{key}"
