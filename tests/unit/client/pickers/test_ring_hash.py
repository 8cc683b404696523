from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence

import grpc.aio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from grpc_balancer.load import Outcome
from grpc_balancer.pickers import Candidate
from grpc_balancer.pickers.ring_hash import NEVER_TOO_MANY, POINTS, Ring, ring_hash
from grpc_balancer.testing import FakeEndpoint
from grpc_registry.service_config import RingHash
from tests.unit.client.candidates import CALL, FakeCall, candidates, instance, stopped

BY_USER = RingHash("x-user")
KEYS = [f"user-{number}" for number in range(1500)]


def call(*keys: str | bytes) -> FakeCall:
    return FakeCall(metadata=[("other", "1"), *(("x-user", key) for key in keys)])


def ring(endpoints: Sequence[Candidate], wanted: RingHash = BY_USER) -> Ring:
    made = ring_hash(wanted)(endpoints, random.Random(1))
    assert isinstance(made, Ring)
    return made


def owners(endpoints: Sequence[Candidate], wanted: RingHash = BY_USER, keys: Sequence[str] = KEYS) -> dict[str, str]:
    """Who has each key."""
    picker = ring(endpoints, wanted)
    return {key: picker.pick(call(key)).instance.id for key in keys}


def moved(before: dict[str, str], after: dict[str, str]) -> set[tuple[str, str]]:
    return {(before[key], after[key]) for key in before if before[key] != after[key]}


# Who has a key

FEW_KEYS = KEYS[:200]
some_ids = st.lists(st.text("abcdef0123456789", min_size=1, max_size=8), min_size=3, max_size=9, unique=True)


@settings(deadline=None)
@given(ids=some_ids, data=st.data())
def test_a_change_moves_only_its_share(ids: list[str], data: st.DataObject) -> None:
    """One that comes takes keys and nobody else gets any; all that it takes go back when it leaves."""
    endpoints = [FakeEndpoint(instance(name)) for name in ids]
    newcomer = data.draw(st.sampled_from(endpoints))
    by_user = RingHash("x-user")
    before = owners([endpoint for endpoint in endpoints if endpoint is not newcomer], by_user, FEW_KEYS)
    after = owners(endpoints, by_user, FEW_KEYS)
    assert {to for _, to in moved(before, after)} <= {newcomer.instance.id}


@settings(deadline=None)
@given(
    weights=st.lists(st.integers(50, 200), min_size=3, max_size=7), index=st.integers(0), weight=st.integers(50, 200)
)
def test_a_weight_that_changes_moves_keys_to_or_from_its_endpoint(weights: list[int], index: int, weight: int) -> None:
    """Heavier, an endpoint takes keys; lighter, it gives some; the others exchange none."""
    index %= len(weights)
    roomy = RingHash("x-user", min_ring_size=1, max_ring_size=100_000)
    before = owners(candidates(*weights), roomy, FEW_KEYS)
    after = owners(candidates(*weights[:index], weight, *weights[index + 1 :]), roomy, FEW_KEYS)
    changes = moved(before, after)
    assert all((to if weight > weights[index] else from_) == f"e{index}" for from_, to in changes)


@pytest.mark.parametrize("number", [2, 3, 7, 9, 20, 100])
def test_a_newcomer_moves_its_share_and_no_more(number: int) -> None:
    """By the default sizes of the ring, for few endpoints and for many, one that comes takes its share of the keys."""
    before, after = owners(candidates(*[100] * number)), owners(candidates(*[100] * (number + 1)))
    part = sum(before[key] != after[key] for key in KEYS) / len(KEYS)
    assert part < 1.5 / (number + 1)


@settings(deadline=None, max_examples=30)
@given(st.permutations([60, 100, 140, 200, 300]))
def test_the_order_of_candidates_does_not_matter(weights: list[int]) -> None:
    """Two clients that know the same instances agree, in whatever order they became ready."""
    endpoints = [FakeEndpoint(instance(f"of-{weight}", weight=weight)) for weight in weights]
    ordered = sorted(endpoints, key=lambda endpoint: endpoint.weight)
    assert owners(endpoints, keys=FEW_KEYS) == owners(ordered, keys=FEW_KEYS)


def test_another_process_agrees() -> None:
    """These owners are the same in all processes, releases and machines: a change of the hash would show here."""
    picked = owners(candidates(100, 100, 100))
    assert [picked[key] for key in KEYS[:8]] == ["e1", "e1", "e0", "e0", "e2", "e0", "e1", "e0"]


def test_keys_follow_the_registered_weights() -> None:
    """Keys are shared by weight, and a newcomer that warms up has all of its keys at once."""
    endpoints = candidates(100, 200, 100)
    settled = owners(endpoints)
    shares = Counter(settled.values())
    assert shares["e1"] / len(KEYS) == pytest.approx(0.5, abs=0.06)
    assert shares["e0"] / len(KEYS) == pytest.approx(0.25, abs=0.05)
    for endpoint, effective in zip(endpoints, (1000, 200, 1000), strict=True):
        endpoint.weight = effective
    assert owners(endpoints) == settled


@pytest.mark.parametrize(
    ("weights", "wanted", "points"),
    [
        ([100], RingHash(), 512),
        ([100] * 2, RingHash(), 2 * POINTS),
        ([100] * 8, RingHash(), 8 * POINTS),
        ([100] * 9, RingHash(), 9 * POINTS),
        ([1, 1], RingHash(), 512),
        ([1_000_000] * 4, RingHash(), 65_536),
        ([100] * 20, RingHash(max_ring_size=4096), 4100),
        ([1, 1_000_000], RingHash(), 65_537),
        ([100] * 5000, RingHash(), 65_000),
    ],
)
def test_the_size_of_the_ring(weights: list[int], wanted: RingHash, points: int) -> None:
    """256 points for each default weight, fitted between the sizes asked for, and one for everyone at least."""
    made = ring(candidates(*weights), wanted)
    assert len(made._points) == points
    assert len({candidate.instance.id for _, _, candidate in made._places}) == len(weights)


def test_the_owner_of_a_key() -> None:
    """Whoever gets the key's calls stays its owner while overloaded, when others get them; without a key, nobody is."""
    endpoints = candidates(100, 100, 100)
    picker = ring(endpoints, RingHash("x-user", load_factor=1.25))
    for key in KEYS[:50]:
        owner = picker.pick(call(key))
        assert picker.owner(call(key)) is owner
        handles = [owner.load.begin() for _ in range(50)]
        assert picker.pick(call(key)) is not owner
        assert picker.owner(call(key)) is owner
        for handle in handles:
            handle.end()
    assert picker.owner(CALL) is None


# What the key is


def test_the_key_is_the_header() -> None:
    """The same value goes to the same endpoint, in text or bytes, in a sequence or in Metadata; several are joined."""
    picker = ring(candidates(*[100] * 8))
    for key in KEYS[:50]:
        picked = picker.pick(call(key))
        assert picker.pick(call(key.encode())) is picked
        assert picker.pick(FakeCall(metadata=grpc.aio.Metadata(("x-user", key)))) is picked
    both = {picker.pick(call("a", key)).instance.id for key in KEYS[:50]}
    assert len(both) == 8
    assert picker.pick(call("a", "b")) is picker.pick(call("a,b"))


@pytest.mark.parametrize("metadata", [None, (), (("other", "x"),)])
def test_without_a_key_calls_are_spread(metadata: tuple[tuple[str, str], ...] | None) -> None:
    """A call without the header, or a policy without a header, has a random key."""
    for wanted in (BY_USER, RingHash()):
        picker = ring(candidates(100, 200, 100), wanted)
        shares = Counter(picker.pick(FakeCall(metadata=metadata)).instance.id for _ in range(4000))
        assert shares["e1"] == pytest.approx(2000, abs=250)


# Bounded load


def test_a_hot_key_overflows_to_the_next_ones() -> None:
    """Calls of one key that stay open fill its endpoint to 1.25 times the mean, then the next one, and so on."""
    endpoints = candidates(*[100] * 4)
    picker = ring(endpoints)
    order = [name for name, _ in zip_ranks(picker, call("hot"))]
    for _ in range(400):
        picker.pick(call("hot")).load.begin()
    counts = {endpoint.instance.id: endpoint.load.count for endpoint in endpoints}
    assert [counts[name] for name in order] == [125, 125, 125, 25]


def zip_ranks(picker: Ring, of: FakeCall) -> list[tuple[str, float]]:
    """The ids in the order in which the ring has them for a call."""
    ids = [candidate.instance.id for candidate in picker.candidates]
    return sorted(zip(ids, picker.scores(of), strict=True), key=lambda one: one[1])


def test_the_bound_goes_by_weight() -> None:
    """An endpoint of twice the weight is full at twice the number."""
    endpoints = candidates(100, 200, 100)
    picker = ring(endpoints)
    for key in KEYS[:800]:
        picker.pick(call(key)).load.begin()
    assert endpoints[1].load.count <= 1.25 * 400 + 1
    assert max(endpoints[0].load.count, endpoints[2].load.count) <= 1.25 * 200 + 1


def test_a_few_calls_stay_with_their_key() -> None:
    """A quiet client's calls of one key stay together, though that is above the mean."""
    picker = ring(candidates(*[100] * 8))
    first = picker.pick(call("a"))
    for _ in range(NEVER_TOO_MANY):
        assert picker.pick(call("a")) is first
        first.load.begin()
    assert picker.pick(call("a")) is not first


def test_without_a_bound_a_key_stays_however_many_calls_it_has() -> None:
    """A load factor of 0 switches bounded load off."""
    picker = ring(candidates(*[100] * 4), RingHash("x-user", load_factor=0))
    first = picker.pick(call("a"))
    first.load.count = 10_000
    assert picker.pick(call("a")) is first


def test_who_fails_fast_passes_its_keys_on() -> None:
    """Recent failures count like calls in progress."""
    picker = ring(candidates(*[100] * 4, clock=stopped))
    first = picker.pick(call("a"))
    for _ in range(2 * NEVER_TOO_MANY):
        first.load.record(Outcome.FAILED, 0.001)
    assert picker.pick(call("a")) is not first


def test_if_all_are_full_a_key_stays_at_home() -> None:
    """When every endpoint fails there is nobody to pass a call on to, and looking for one ends soon."""
    endpoints = candidates(*[100] * 200, clock=stopped)
    picker = ring(endpoints)
    at_home = {key: picker.pick(call(key)) for key in KEYS[:20]}
    for endpoint in endpoints:
        for _ in range(50):
            endpoint.load.record(Outcome.FAILED, 0.001)
    assert {key: picker.pick(call(key)) for key in KEYS[:20]} == at_home
    home = at_home[KEYS[0]]
    assert picker.pick_excluding(call(KEYS[0]), {home}) not in (None, home)


def test_the_mean_is_counted_now_and_then() -> None:
    """Among many the sum of all calls may be an eighth of the endpoints' number of picks old, and no older."""
    endpoints = candidates(*[100] * 80)
    picker = ring(endpoints)
    hot, following = (name for name, _ in zip_ranks(picker, call("hot"))[:2])
    load_of = {endpoint.instance.id: endpoint.load for endpoint in endpoints}
    load_of[hot].count = 9
    assert picker.pick(call("hot")).instance.id == following
    for name in load_of.keys() - {following}:
        load_of[name].count = 9
    picked = [picker.pick(call("hot")).instance.id for _ in range(10)]
    assert picked == [following] * 9 + [hot]


# Elsewhere


def test_another_pick_is_the_next_one_clockwise() -> None:
    """Retries of one key go to the same endpoints in the same order, until all were tried."""
    endpoints = candidates(*[100] * 9)
    picker = ring(endpoints)
    order = [name for name, _ in zip_ranks(picker, call("a"))]
    tried: list[Candidate] = []
    while (picked := picker.pick_excluding(call("a"), tried)) is not None:
        tried.append(picked)
    assert [candidate.instance.id for candidate in tried] == order
    assert picker.pick(call("a")) is tried[0]


def test_a_restart_under_the_same_id_keeps_the_keys() -> None:
    """Of two addresses under one id, one has the keys; the other is a candidate without any."""
    old, new = FakeEndpoint(instance("a", port=1)), FakeEndpoint(instance("a", port=2))
    other = FakeEndpoint(instance("b"))
    picker = ring([old, new, other])
    assert {picker.pick(call(key)) for key in KEYS} == {new, other}
    assert sorted(picker.scores(call("a"))) == [0, 1, 2]
    assert list(picker.scores(CALL)) == [0, 0, 0]
    assert owners([old, other]) == owners([new, other])
