from __future__ import annotations

import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from grpc_balancer.subset import nearest
from grpc_registry import Instance

names = st.lists(st.text("abcdefgh0123", min_size=1, max_size=6), min_size=1, max_size=20, unique=True)
keys = st.text(max_size=8)


def instances(*ids: str, zones: str = "abc", weight: int = 100) -> list[Instance]:
    """One for each id, the zones in turn by the id's letters."""
    return [
        Instance("product", "10.0.0.1:1", id=name, zone=zones[sum(name.encode()) % len(zones)], weight=weight)
        for name in ids
    ]


def ids(members: list[Instance]) -> list[str]:
    return [member.id for member in members]


@given(names=names, key=keys, size=st.integers(1, 8), zone=st.sampled_from(["", "a"]), data=st.data())
def test_one_that_comes_or_goes_changes_one_member(
    names: list[str], key: str, size: int, zone: str, data: st.DataObject
) -> None:
    """An instance more or less brings at most one in and puts at most one out, with zones and without."""
    few = instances(*names)
    newcomer = data.draw(st.sampled_from(few))
    before = set(ids(nearest([one for one in few if one is not newcomer], key, size, zone=zone)))
    after = set(ids(nearest(few, key, size, zone=zone)))
    assert after - before <= {newcomer.id}
    assert len(before - after) <= len(after - before)
    assert len(after) == min(size, len(few))


@given(names=names, key=keys, size=st.integers(1, 8), order=st.randoms(use_true_random=False))
def test_a_subset_depends_on_nothing_but_names(names: list[str], key: str, size: int, order: random.Random) -> None:
    """The order of the instances does not matter, and asking again gives the same, the closest first."""
    few = instances(*names)
    shuffled = list(few)
    order.shuffle(shuffled)
    members = nearest(few, key, size)
    assert ids(nearest(shuffled, key, size)) == ids(members)
    assert ids(nearest(few, key, max(1, size - 1))) == ids(members)[: max(1, size - 1)]


@given(names=names, key=keys, size=st.integers(1, 8), zone=st.sampled_from(["", "a"]), data=st.data())
def test_those_that_fail_are_replaced_while_they_fail(
    names: list[str], key: str, size: int, zone: str, data: st.DataObject
) -> None:
    """Members stay when they fail; as many others come in, up to twice the size, as long as there are any."""
    few = instances(*names)
    members = nearest(few, key, size, zone=zone)
    failed = {(one.id, one.address) for one in few if data.draw(st.booleans())}
    now = nearest(few, key, size, zone=zone, failed=failed)
    assert ids(now)[: len(members)] == ids(members)
    reachable = [one for one in now if (one.id, one.address) not in failed]
    assert len(reachable) == size or len(now) == min(len(few), 2 * size)


def test_many_clients_spread_evenly() -> None:
    """Of 1,000 clients with 10 of 50 instances each, every instance has 200, give or take a quarter."""
    fifty = instances(*(f"i{index}" for index in range(50)))
    clients = Counter(name for client in range(1000) for name in ids(nearest(fifty, f"client-{client}", 10)))
    assert sum(clients.values()) == 10_000
    assert 150 < min(clients.values()) <= max(clients.values()) < 250


def test_the_heavy_have_more_clients() -> None:
    """An instance of twice the weight is the first of twice as many clients."""
    both = [*instances("light"), *instances("heavy", weight=200)]
    first = Counter(nearest(both, f"client-{client}", 1)[0].id for client in range(3000))
    assert first["heavy"] == pytest.approx(2000, abs=120)


def test_three_of_four_are_in_the_own_zone() -> None:
    """A client has members at home, one of four elsewhere, and more elsewhere if home has too few."""
    many = [
        Instance("product", "10.0.0.1:1", id=f"{zone}{index}", zone=zone)
        for zone, number in (("near", 20), ("far", 20), ("tiny", 2))
        for index in range(number)
    ]

    def at(zone: str, size: int) -> Counter[str]:
        return Counter(member.zone for member in nearest(many, "client", size, zone=zone))

    assert at("near", 8)["near"] == 6
    assert at("near", 3)["near"] == 3
    assert at("tiny", 8)["tiny"] == 2
    assert sum(at("nowhere", 8).values()) == 8


@pytest.mark.parametrize("size", [0, -1])
def test_a_subset_has_members(size: int) -> None:
    """A size below 1 is refused by its value."""
    with pytest.raises(ValueError, match=f"size {size}: a subset has at least one member"):
        nearest([], "client", size)
