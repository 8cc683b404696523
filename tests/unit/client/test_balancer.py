from __future__ import annotations

import random
import time
from collections.abc import Callable

import pytest
from grpc import ChannelConnectivity
from hypothesis import given
from hypothesis import strategies as st

from grpc_balancer.balancer import Balancer, Changes
from grpc_balancer.outlook import Outlook
from grpc_balancer.pickers import policy_named
from grpc_balancer.pickers.ring_hash import ring_hash
from grpc_balancer.testing import FakeEndpoint
from grpc_registry import Instance, Snapshot, State, Unresolved
from grpc_registry.service_config import RingHash
from tests.unit.client.candidates import CALL, FakeCall, instance, snapshot

READY = ChannelConnectivity.READY
IDLE = ChannelConnectivity.IDLE
CONNECTING = ChannelConnectivity.CONNECTING
FAILED = ChannelConnectivity.TRANSIENT_FAILURE

A, B, C, D = (instance(name, port=10_000 + index) for index, name in enumerate("abcd"))


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def make(policy: str = "round_robin", clock: Callable[[], float] = time.monotonic) -> Balancer[FakeEndpoint]:
    return Balancer("product", policy_named(policy), FakeEndpoint, random.Random(1), clock)


def connect(balancer: Balancer[FakeEndpoint], *names: str, state: ChannelConnectivity = READY) -> Changes[FakeEndpoint]:
    """Report the state for the endpoints of these ids (all by default), and return the last report's changes."""
    changes: Changes[FakeEndpoint] = Changes()
    for endpoint in balancer.endpoints:
        if not names or endpoint.instance.id in names:
            endpoint.connectivity = state
            changes = balancer.connectivity_changed(endpoint)
    return changes


def ids(endpoints: tuple[FakeEndpoint, ...]) -> list[str]:
    return sorted(endpoint.instance.id for endpoint in endpoints)


def picked(balancer: Balancer[FakeEndpoint], number: int = 30) -> set[str]:
    endpoints = [balancer.pick(CALL) for _ in range(number)]
    return {endpoint.instance.id for endpoint in endpoints if endpoint is not None}


def connected(*instances: Instance) -> Balancer[FakeEndpoint]:
    balancer = make()
    balancer.apply(snapshot(1, *instances))
    connect(balancer)
    return balancer


# The set


def test_a_snapshot_opens_what_is_new_and_retires_what_is_gone() -> None:
    """The changes name exactly the endpoints that came and went."""
    balancer = make()
    assert ids(balancer.apply(snapshot(1, A, B)).open) == ["a", "b"]
    changes = balancer.apply(snapshot(2, B, C))
    assert (ids(changes.open), ids(changes.retire)) == (["c"], ["a"])
    assert ids(balancer.endpoints) == ["b", "c"]


def test_an_endpoint_that_stays_is_left_alone() -> None:
    """A change of weight or of the others keeps an endpoint, its connection and its load."""
    balancer = connected(A, B)
    before = {endpoint.instance.id: endpoint for endpoint in balancer.endpoints}
    before["a"].load.begin()
    heavier = instance("a", port=10_000, weight=500)
    balancer.apply(snapshot(2, heavier, C))
    after = {endpoint.instance.id: endpoint for endpoint in balancer.endpoints}
    assert after["a"] is before["a"]
    assert after["a"].instance.weight == 500
    assert after["a"].load.count == 1


def test_another_address_is_another_endpoint() -> None:
    """An instance that moves to another address gets a new connection, and the old one is retired."""
    balancer = connected(A)
    changes = balancer.apply(snapshot(2, instance("a", port=11_111)))
    assert [endpoint.instance.address for endpoint in changes.open] == ["10.0.0.1:11111"]
    assert [endpoint.instance.address for endpoint in changes.retire] == ["10.0.0.1:10000"]


@given(
    st.lists(st.lists(st.tuples(st.sampled_from("abcdef"), st.integers(1, 3), st.booleans()), unique_by=lambda i: i[0]))
)
def test_any_sequence_of_snapshots_ends_with_the_last_one(history: list[list[tuple[str, int, bool]]]) -> None:
    """After any sequence the endpoints are those of the last snapshot, if who left is gone; each is retired once."""
    balancer = make()
    opened: list[FakeEndpoint] = []
    retired: list[FakeEndpoint] = []
    for revision, members in enumerate(history):
        states = {True: State.SERVING, False: State.DRAINING}
        instances = [instance(name, weight=weight, state=states[serving]) for name, weight, serving in members]
        changes = balancer.apply(snapshot(revision, *instances))
        opened += changes.open
        retired += changes.retire
        for endpoint in balancer.endpoints:
            if endpoint.instance not in instances:
                endpoint.connectivity = FAILED
                retired += balancer.connectivity_changed(endpoint).retire
        connect(balancer)
        assert {endpoint.instance for endpoint in balancer.endpoints} == set(instances)
        assert picked(balancer) <= {name for name, _, serving in members if serving}
        assert set(opened) - set(retired) == set(balancer.endpoints)
    assert len(opened) == len(set(opened))
    assert len(retired) == len(set(retired))


# Who may be picked


def test_only_connected_endpoints_are_picked() -> None:
    """An endpoint takes part from the moment it is READY to the moment it is not."""
    balancer = make()
    balancer.apply(snapshot(1, A, B, C))
    assert balancer.pick(CALL) is None
    connect(balancer, "a", "b")
    assert picked(balancer) == {"a", "b"}
    connect(balancer, "a", state=IDLE)
    assert picked(balancer) == {"b"}


def test_draining_endpoints_are_not_picked_and_come_back() -> None:
    """`draining` takes an endpoint out of the picks without closing it; `serving` puts it back."""
    balancer = connected(A, B)
    changes = balancer.apply(snapshot(2, A, instance("b", port=10_001, state=State.DRAINING)))
    assert changes == Changes()
    assert picked(balancer) == {"a"}
    balancer.apply(snapshot(3, A, B))
    assert picked(balancer) == {"a", "b"}


def test_pick_first_stays_with_one_when_others_come_and_go() -> None:
    """The endpoint connected the longest keeps the calls; when it is lost the next oldest gets them, and keeps them."""
    balancer = make("pick_first")
    balancer.apply(snapshot(1, A, B, C))
    connect(balancer, "b")
    connect(balancer, "a", "c")
    assert picked(balancer) == {"b"}
    connect(balancer, "b", state=IDLE)
    assert picked(balancer) == {"a"}
    connect(balancer, "b")
    assert picked(balancer) == {"a"}


def test_a_report_without_news_keeps_the_picker() -> None:
    """A third endpoint that fails to connect, over and over, does not disturb the cycle of the other two."""
    balancer = make("weighted_round_robin")
    balancer.apply(snapshot(1, instance("a", weight=300), instance("b", weight=100), C))
    connect(balancer, "a", "b")
    names = []
    for number in range(400):
        connect(balancer, "c", state=FAILED if number % 2 else CONNECTING)
        endpoint = balancer.pick(CALL)
        assert endpoint is not None
        names.append(endpoint.instance.id)
    assert all(names[start : start + 4].count("a") == 3 for start in range(396))


def test_another_endpoint_is_one_not_tried() -> None:
    """A call that failed somewhere is offered the others, and nothing once all were tried."""
    balancer = connected(A, B)
    first, second = balancer.endpoints
    assert balancer.pick_another(CALL, {first}) is second
    assert balancer.pick_another(CALL, {first, second}) is None


# The outage contract


def test_a_stale_snapshot_is_used_for_ever() -> None:
    """Endpoints of a stale snapshot are picked as before, however long the registry is away."""
    clock = Clock()
    balancer = make(clock=clock)
    balancer.apply(snapshot(7, A, B))
    connect(balancer)
    assert balancer.apply(snapshot(7, A, B, stale=True)) == Changes()
    clock.now += 1_000_000
    assert picked(balancer) == {"a", "b"}


def test_an_unresolved_service_keeps_what_was_known() -> None:
    """Once there was a snapshot, the registry's silence takes nothing away."""
    balancer = connected(A)
    assert balancer.apply(Unresolved("product", "closed")) == Changes()
    assert picked(balancer) == {"a"}


@pytest.mark.parametrize("relisted", [True, False])
@pytest.mark.parametrize("left", [(), (A,)])
def test_a_mass_deletion_is_doubted(left: tuple[Instance, ...], relisted: bool) -> None:
    """Connected endpoints that a snapshot lacks, more than half of all, stay and are picked, whoever tells of it."""
    balancer = connected(A, B, C)
    assert balancer.apply(snapshot(1, *left, relisted=relisted)) == Changes()
    assert picked(balancer) == {"a", "b", "c"}
    assert "doubted" in repr(balancer)


def test_a_mass_deletion_may_come_in_pieces() -> None:
    """Leases end one by one: who was let go of moments before is opened again, and found alive or not."""
    balancer = connected(A, B, C)
    assert ids(balancer.apply(snapshot(2, B, C)).retire) == ["a"]
    again = balancer.apply(snapshot(3, C))
    assert (ids(again.open), ids(again.retire)) == (["a"], [])
    assert balancer.apply(snapshot(4)) == Changes()
    assert ids(connect(balancer, "a", state=FAILED).retire) == ["a"]
    connect(balancer, "b", "c")
    assert picked(balancer) == {"b", "c"}


def test_departures_over_a_long_time_are_believed() -> None:
    """One by one, each half a minute after the one before, all but the last may go."""
    clock = Clock()
    balancer = make(clock=clock)
    balancer.apply(snapshot(1, A, B, C))
    connect(balancer)
    for left in ((B, C), (C,)):
        clock.now += 30
        assert len(balancer.apply(snapshot(2, *left)).retire) == 1
    assert ids(balancer.endpoints) == ["c"]


def test_a_doubted_endpoint_goes_with_its_connection() -> None:
    """Losing its connection confirms that it is gone; the others stay."""
    balancer = connected(A, B, C)
    balancer.apply(snapshot(1, relisted=True))
    assert ids(connect(balancer, "b", state=IDLE).retire) == ["b"]
    assert picked(balancer) == {"a", "c"}


def test_what_was_not_connected_anyway_goes_at_once() -> None:
    """A mass deletion takes along at once the endpoints whose connection had failed."""
    balancer = connected(A, B, C)
    connect(balancer, "c", state=FAILED)
    assert ids(balancer.apply(snapshot(1, relisted=True)).retire) == ["c"]


def test_a_doubted_endpoint_that_still_connects_may_prove_itself() -> None:
    """An endpoint that was connecting at the mass deletion is kept until that has failed."""
    balancer = connected(A, B)
    balancer.apply(snapshot(2, A, B, C))
    connect(balancer, "c", state=CONNECTING)
    assert balancer.apply(snapshot(1, relisted=True)) == Changes()
    assert ids(connect(balancer, "c", state=FAILED).retire) == ["c"]


def test_a_doubted_endpoint_that_returns_is_as_before() -> None:
    """Listed again, it is kept with its load, and its disappearance later on is believed."""
    clock = Clock()
    balancer = make(clock=clock)
    balancer.apply(snapshot(1, A, B, C))
    connect(balancer)
    before = balancer.endpoints
    balancer.apply(snapshot(1, relisted=True))
    balancer.apply(snapshot(2, A))
    balancer.apply(snapshot(3, A, B))
    assert balancer.endpoints == before
    clock.now += 30
    assert ids(balancer.apply(snapshot(4, B)).retire) == ["a"]
    assert ids(balancer.endpoints) == ["b", "c"]


def test_a_doubted_endpoint_yields_to_its_successor() -> None:
    """Its address under another id says that the process was restarted."""
    balancer = connected(A, B)
    balancer.apply(snapshot(1, relisted=True))
    successor = instance("new", port=10_000)
    changes = balancer.apply(snapshot(2, successor))
    assert (ids(changes.open), ids(changes.retire)) == (["new"], ["a"])


def test_a_new_set_in_place_of_the_old_is_believed() -> None:
    """Who is replaced by as many others is not doubted, unless it was after a break that they were seen."""
    assert ids(connected(A, B).apply(snapshot(2, C, D)).retire) == ["a", "b"]
    assert ids(connected(A, B).apply(snapshot(2, C, D, relisted=True)).retire) == []


def test_who_has_a_successor_is_not_doubted_for_ever() -> None:
    """An instance that left, and was restarted before most others vanished, gets no other chance, nor is it counted."""
    balancer = connected(A, B, C)
    balancer.apply(snapshot(2, B, C))
    restarted = instance("z", port=10_000)
    balancer.apply(snapshot(3, restarted, relisted=True))
    assert "2 doubted" in repr(balancer)


def test_half_of_the_endpoints_are_no_mass() -> None:
    """Up to half missing at once is what instances may come to by themselves."""
    balancer = connected(A, B, C, D)
    assert ids(balancer.apply(snapshot(2, A, B)).retire) == ["c", "d"]


def test_draining_endpoints_do_not_count_for_the_mass() -> None:
    """An instance that was on its way out and is gone is no reason for doubt."""
    draining = [instance(name, state=State.DRAINING) for name in ("x", "y", "z")]
    balancer = connected(A, *draining)
    assert ids(balancer.apply(snapshot(2, A)).retire) == ["x", "y", "z"]


def test_the_dead_do_not_count_for_the_mass() -> None:
    """Who has lost its connection and its registration is dead, however many they are."""
    balancer = connected(A, B, C, D)
    connect(balancer, "b", "c", "d", state=FAILED)
    assert ids(balancer.apply(snapshot(2, A)).retire) == ["b", "c", "d"]
    assert ids(balancer.endpoints) == ["a"]


def test_the_restarted_do_not_count_for_the_mass() -> None:
    """Whose address is listed under another id was restarted: that all of them were is no mass deletion."""
    balancer = connected(A, B)
    again = [instance(name, port=port) for name, port in (("a2", 10_000), ("b2", 10_001))]
    changes = balancer.apply(snapshot(2, *again))
    assert (ids(changes.open), ids(changes.retire)) == (["a2", "b2"], ["a", "b"])


# What may be hoped for


def outlook_of(*states: ChannelConnectivity) -> Outlook:
    balancer = make()
    balancer.apply(snapshot(1, *(A, B, C)[: len(states)]))
    for endpoint, state in zip(balancer.endpoints, states, strict=True):
        endpoint.connectivity = state
        balancer.connectivity_changed(endpoint)
    return balancer.outlook()


@pytest.mark.parametrize(
    ("states", "outlook"),
    [
        ((), Outlook.NONE),
        ((READY, FAILED), Outlook.READY),
        ((FAILED, CONNECTING), Outlook.PENDING),
        ((IDLE,), Outlook.PENDING),
        ((FAILED, FAILED), Outlook.NONE),
    ],
)
def test_the_outlook_is_the_best_of_all_endpoints(states: tuple[ChannelConnectivity, ...], outlook: Outlook) -> None:
    """One endpoint that is connecting is reason to wait; if all have failed there is none."""
    assert outlook_of(*states) is outlook


def test_the_outlook_before_and_without_a_registry() -> None:
    """The first resolution is worth waiting for; a registry that does not answer is not."""
    balancer = make()
    assert balancer.outlook() is Outlook.PENDING
    balancer.apply(Unresolved("product", "connection refused"))
    assert balancer.outlook() is Outlook.NONE


def test_the_outlook_leaves_out_what_was_tried_and_what_drains() -> None:
    """Neither an endpoint that the call has tried, nor a draining one, is a hope."""
    balancer = connected(A, instance("b", state=State.DRAINING))
    tried = [endpoint for endpoint in balancer.endpoints if endpoint.instance.id == "a"]
    assert balancer.outlook(tried) is Outlook.NONE


# The message


def test_the_message_says_what_was_known() -> None:
    """It names the service, the endpoints and why each is away, and the age of the snapshot."""
    clock = Clock()
    balancer = make(clock=clock)
    assert balancer.describe() == "no endpoint of 'product': the registry has not answered yet"
    balancer.apply(Unresolved("product", "connection refused"))
    assert balancer.describe() == "no endpoint of 'product': the registry has not answered (connection refused)"
    balancer.apply(snapshot(40))
    assert balancer.describe().endswith(": no instance is registered; registry snapshot at revision 40")
    balancer.apply(snapshot(41, A, B, instance("x", state=State.DRAINING)))
    connect(balancer, "a", "b", state=FAILED)
    balancer.endpoints[0].error = "Connection refused"
    balancer.apply(Snapshot("product", 41, tuple(e.instance for e in balancer.endpoints), stale=True))
    clock.now += 12
    assert balancer.describe() == (
        "no endpoint of 'product': 0 of 2 instances are connected (10.0.0.1:10000: Connection refused; "
        "10.0.0.1:10001: transient failure), 1 draining; registry snapshot at revision 41, stale for 12 s"
    )


def test_the_message_is_short_for_many() -> None:
    """Three endpoints are named, the rest are counted."""
    balancer = make()
    balancer.apply(snapshot(1, *(instance(f"i{index}", port=100 + index) for index in range(9))))
    assert "(10.0.0.1:100: idle; 10.0.0.1:101: idle; 10.0.0.1:102: idle; and 6 more)" in balancer.describe()


def test_the_message_tells_when_all_are_draining() -> None:
    """A service with nothing but draining instances is told apart from one with none."""
    balancer = make()
    balancer.apply(snapshot(1, instance("a", state=State.DRAINING)))
    assert "no instance is serving, 1 draining" in balancer.describe()


def test_the_repr_counts() -> None:
    """The repr shows how many are ready of how many."""
    balancer = connected(A, B, C)
    connect(balancer, "c", state=FAILED)
    assert repr(balancer) == "<Balancer 'product': 2 of 3 ready>"


# The owner of a key


def keyed() -> Balancer[FakeEndpoint]:
    policy = ring_hash(RingHash("x-user"))
    return Balancer("product", policy, FakeEndpoint, random.Random(1), time.monotonic)


def test_the_owner_is_who_may_be_picked() -> None:
    """There is none before there are endpoints, and none without a key; one that is lost leaves its keys to others."""
    balancer, key = keyed(), FakeCall(metadata=[("x-user", "7")])
    assert balancer.owner(key) is None
    balancer.apply(snapshot(1, A, B))
    assert balancer.owner(key) is None
    connect(balancer)
    first = balancer.owner(key)
    assert first is not None
    assert first is balancer.pick(key)
    assert balancer.owner(CALL) is None
    connect(balancer, first.instance.id, state=FAILED)
    second = balancer.owner(key)
    assert second is not None
    assert second is not first


def test_a_policy_without_keys_has_no_owners() -> None:
    """To ask for an owner under such a policy is a mistake, which is named."""
    with pytest.raises(LookupError, match="goes by no key"):
        connected(A, B).owner(CALL)


def test_eligible_instances_are_one_object_while_nothing_changes() -> None:
    """They are those that may be picked, and new ones only if they differ."""
    balancer = make()
    balancer.apply(snapshot(1, A, B))
    nobody = balancer.eligible
    assert nobody == ()
    connect(balancer)
    before = balancer.eligible
    assert {one.id for one in before} == {"a", "b"}
    balancer.apply(snapshot(2, A, B))
    connect(balancer)
    assert balancer.eligible is before
    connect(balancer, "b", state=FAILED)
    assert [one.id for one in balancer.eligible] == ["a"]
