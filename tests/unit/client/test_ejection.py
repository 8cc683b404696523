"""Endpoints that the balancer leaves out although they are connected: ejected, suspect, or warming up."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace
from functools import partial

import pytest
from grpc import ChannelConnectivity
from hypothesis import given
from hypothesis import strategies as st

from grpc_balancer.balancer import Balancer
from grpc_balancer.load import Outcome
from grpc_balancer.pickers import policy_named
from grpc_balancer.rules import Rules
from grpc_balancer.testing import FakeEndpoint
from grpc_registry import Instance, State
from grpc_registry.service_config import FailurePercentage, OutlierDetection
from tests.unit.client.candidates import CALL, snapshot

READY = ChannelConnectivity.READY


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def instances(number: int, *, zone: str = "", host: str = "", weight: int = 100) -> list[Instance]:
    return [
        Instance("product", f"10.0.{len(zone)}.{index}:1", id=f"{zone}{index}", zone=zone, host=host, weight=weight)
        for index in range(number)
    ]


def make(*listed: Instance, policy: str = "round_robin", **rules: object) -> tuple[Balancer[FakeEndpoint], Clock]:
    clock = Clock()
    made = Rules(**rules)  # type: ignore[arg-type]
    endpoint = partial(FakeEndpoint, clock=clock)
    balancer = Balancer("product", policy_named(policy), endpoint, random.Random(1), clock, made)
    add(balancer, 1, *listed)
    return balancer, clock


def add(balancer: Balancer[FakeEndpoint], revision: int, *listed: Instance) -> None:
    balancer.apply(snapshot(revision, *listed))
    for endpoint in balancer.endpoints:
        if endpoint.connectivity is not READY:
            endpoint.connectivity = READY
            balancer.connectivity_changed(endpoint)


def picks(balancer: Balancer[FakeEndpoint], number: int = 300) -> Counter[str]:
    found = [balancer.pick(CALL) for _ in range(number)]
    return Counter(endpoint.instance.id for endpoint in found if endpoint is not None)


def fail(balancer: Balancer[FakeEndpoint], name: str, times: int = 5) -> None:
    endpoint = next(one for one in balancer.endpoints if one.instance.id == name)
    for _ in range(times):
        balancer.failed(endpoint)


def test_an_ejected_endpoint_is_not_picked_until_its_time_is_over() -> None:
    """Five failures in a row take an endpoint out of the picks; the sweep after 30 seconds brings it back."""
    balancer, clock = make(*instances(3), outlier_detection=OutlierDetection())
    fail(balancer, "1")
    assert set(picks(balancer)) == {"0", "2"}
    clock.now += 29
    balancer.tick()
    assert set(picks(balancer)) == {"0", "2"}
    clock.now += 11
    balancer.tick()
    assert set(picks(balancer)) == {"0", "1", "2"}


def test_a_tick_tells_whose_ejection_began_or_ended() -> None:
    """Who is readmitted is told of once, as is who is ejected by the rates; who was ejected by a failure is not."""
    detection = OutlierDetection(failure_percentage=FailurePercentage(request_volume=4, minimum_hosts=1))
    balancer, clock = make(*instances(3), outlier_detection=detection)
    fail(balancer, "1")
    clock.now += 10
    assert balancer.tick() == []
    clock.now += 20
    assert [(one.instance.id, one.record.ejected) for one in balancer.tick()] == [("1", False)]
    fail(balancer, "2", times=4)
    clock.now += 10
    assert [(one.instance.id, one.record.ejected) for one in balancer.tick()] == [("2", True)]
    assert balancer.tick() == []


def test_an_endpoint_that_never_gets_well_is_ejected_ever_more_rarely() -> None:
    """Fifty failures a second for an hour eject an endpoint no more than 16 times, so logging that floods nothing."""
    balancer, clock = make(*instances(3), outlier_detection=OutlierDetection())
    (bad, *_) = balancer.endpoints
    changes = 0
    for _ in range(3600):
        changes += sum(balancer.failed(bad) for _ in range(50 * (not bad.record.ejected)))
        changes += len(balancer.tick())
        clock.now += 1
    assert 15 <= changes <= 32


def test_an_endpoint_that_leaves_in_disgrace_returns_in_disgrace() -> None:
    """An ejected endpoint that leaves the registry and comes back is still ejected."""
    balancer, _ = make(*instances(3), outlier_detection=OutlierDetection())
    fail(balancer, "1")
    one, two, three = instances(3)
    add(balancer, 2, one, three)
    add(balancer, 3, one, two, three)
    assert set(picks(balancer)) == {"0", "2"}


@given(
    sets=st.lists(st.sets(st.integers(0, 5)), max_size=8),
    failures=st.lists(st.integers(0, 4), min_size=6, max_size=6),
    drains=st.booleans(),
)
def test_statistics_survive_every_change_of_the_set(sets: list[set[int]], failures: list[int], drains: bool) -> None:
    """Whoever leaves, or drains, and comes back, whoever else does so meanwhile, has what it had: what its failures
    weigh, its latency, and the failures in a row."""
    listed = instances(6)
    balancer, clock = make(*listed, outlier_detection=OutlierDetection())
    for endpoint, number in zip(balancer.endpoints, failures, strict=True):
        for _ in range(number):
            endpoint.load.record(Outcome.FAILED, None)
            balancer.failed(endpoint)
        endpoint.load.record(Outcome.SUCCEEDED, 0.1 * (1 + number))
    for revision, present in enumerate([*sets, set(range(6))], 2):
        serving = [one for index, one in enumerate(listed) if index in present]
        away = [replace(one, state=State.DRAINING) for index, one in enumerate(listed) if index not in present]
        add(balancer, revision, *serving, *(away if drains else ()))
    for endpoint in balancer.endpoints:
        number = failures[int(endpoint.instance.id)]
        assert endpoint.load.penalty == number
        assert endpoint.load.latency(clock.now) == pytest.approx(0.1 * (1 + number))
        assert endpoint.record.consecutive == number


def test_without_detection_nobody_is_ejected() -> None:
    """No number of failures ejects an endpoint if the rules name no outlier detection."""
    balancer, _ = make(*instances(3))
    fail(balancer, "1", times=100)
    assert set(picks(balancer)) == {"0", "1", "2"}


def test_a_lone_endpoint_is_picked_though_it_fails() -> None:
    """In panic, with fewer than half of the endpoints left, ejections are ignored."""
    balancer, _ = make(*instances(1), outlier_detection=OutlierDetection())
    fail(balancer, "0")
    assert set(picks(balancer)) == {"0"}


def test_new_settings_count_at_once_and_lose_nothing() -> None:
    """With another policy and detection switched off, who is ejected stays so until its time is over."""
    balancer, clock = make(*instances(3), outlier_detection=OutlierDetection())
    fail(balancer, "1")
    balancer.reconfigure(policy_named("random"), None)
    assert set(picks(balancer)) == {"0", "2"}
    fail(balancer, "0", times=50)
    assert set(picks(balancer)) == {"0", "2"}
    clock.now += 60
    balancer.tick()
    assert set(picks(balancer)) == {"0", "1", "2"}


def test_a_lost_machine_makes_its_other_workers_suspect() -> None:
    """The workers of a host that seems to be gone get no calls until each has answered; other hosts are not asked."""
    gone, other = instances(3, zone="a", host="h1"), instances(4, zone="bb", host="h2")
    balancer, _ = make(*gone, *other)
    lost = next(one for one in balancer.endpoints if one.instance.id == "a0")
    lost.connectivity = ChannelConnectivity.TRANSIENT_FAILURE
    balancer.connectivity_changed(lost)
    suspects = balancer.machine_lost(lost)
    assert {suspect.instance.id for suspect in suspects} == {"a1", "a2"}
    assert set(picks(balancer)) == {"bb0", "bb1", "bb2", "bb3"}
    balancer.answered(suspects[0])
    assert suspects[0].instance.id in picks(balancer)


def test_a_suspect_that_lost_its_connection_is_asked_no_more() -> None:
    """It is suspect until it answers, loses its connection or leaves, and no longer."""
    first, second, third = instances(3, host="h1")
    balancer, _ = make(first, second, third)
    lost, near, other = balancer.endpoints
    assert balancer.machine_lost(lost) == [near, other]
    assert balancer.is_suspect(near)
    near.connectivity = ChannelConnectivity.TRANSIENT_FAILURE
    balancer.connectivity_changed(near)
    assert not balancer.is_suspect(near)
    balancer.apply(snapshot(2, first, second))
    assert not balancer.is_suspect(other)


def test_a_full_endpoint_is_no_reason_to_pick_an_ejected_one() -> None:
    """Who is ejected is picked if all others were tried, and not because they have all the calls they may have."""
    balancer, _ = make(*instances(3), outlier_detection=OutlierDetection())
    fail(balancer, "1")
    first, ejected, last = balancer.endpoints
    assert balancer.pick_another(CALL, {first}, {last}) is None
    assert balancer.pick_another(CALL, {first}, {ejected}) is last
    assert balancer.pick_another(CALL, {first, last}) is ejected
    assert balancer.pick_another(CALL, {first, last}, {ejected}) is None


def test_a_newcomer_warms_up() -> None:
    """Who joins others gets a tenth of its share at first, and the whole of it after the window."""
    first = instances(3)
    balancer, clock = make(*first[:2], policy="weighted_round_robin", slow_start=10.0)
    clock.now += 60
    add(balancer, 2, *first)
    assert picks(balancer, 2100)["2"] == 100
    clock.now += 5
    balancer.tick()
    assert picks(balancer, 2500)["2"] == 500
    clock.now += 5
    balancer.tick()
    assert picks(balancer, 300)["2"] == 100


def test_those_who_begin_together_do_not_warm_up() -> None:
    """Where all endpoints are new there is nobody to take the calls meanwhile, and weights count from the first one."""
    balancer, clock = make(*instances(2), policy="weighted_round_robin", slow_start=10.0)
    clock.now += 5
    add(balancer, 2, *instances(3))
    assert picks(balancer, 300) == {"0": 100, "1": 100, "2": 100}


def test_a_server_that_asks_for_another_connection_does_not_warm_up_again() -> None:
    """A connection that is made anew at once keeps the share; one that failed before leads to a process that is new."""
    balancer, clock = make(*instances(2), policy="weighted_round_robin", slow_start=10.0)
    clock.now += 60
    endpoint = balancer.endpoints[0]
    for between, share in ((ChannelConnectivity.IDLE, 100), (ChannelConnectivity.TRANSIENT_FAILURE, 20)):
        for state in (between, ChannelConnectivity.CONNECTING, READY):
            endpoint.connectivity = state
            balancer.connectivity_changed(endpoint)
        assert picks(balancer, 200 if share == 100 else 220)["0"] == share


def test_the_own_zone_is_preferred_while_it_has_enough() -> None:
    """All calls stay in the zone while 1 / 1.4 of its weight is there; what is missing then goes elsewhere."""
    near, far = instances(4, zone="a"), instances(4, zone="bb")
    balancer, _ = make(*near, *far, zone="a")
    assert set(picks(balancer)) == {"a0", "a1", "a2", "a3"}
    for endpoint in balancer.endpoints[:2]:
        endpoint.connectivity = ChannelConnectivity.TRANSIENT_FAILURE
        balancer.connectivity_changed(endpoint)
    found = picks(balancer, 1000)
    assert 690 <= found["a2"] + found["a3"] <= 710
    for endpoint in balancer.endpoints[2:4]:
        endpoint.connectivity = ChannelConnectivity.TRANSIENT_FAILURE
        balancer.connectivity_changed(endpoint)
    assert set(picks(balancer)) == {"bb0", "bb1", "bb2", "bb3"}


def test_a_bound_on_connections_is_kept_and_filled_up() -> None:
    """Each client opens no more than its subset; one that cannot be connected is replaced until it can."""
    balancer, _ = make(*instances(20), max_endpoints=5, subset_key="client-1")
    assert len(balancer.endpoints) == 5
    failed = balancer.endpoints[0]
    failed.connectivity = ChannelConnectivity.TRANSIENT_FAILURE
    opened = balancer.connectivity_changed(failed).open
    assert len(opened) == 1
    assert len(balancer.endpoints) == 6
    failed.connectivity = READY
    assert balancer.connectivity_changed(failed).retire == opened
    other, _ = make(*instances(20), max_endpoints=5, subset_key="client-2")
    assert {one.instance.id for one in other.endpoints} != {one.instance.id for one in balancer.endpoints}


def test_a_subset_is_not_chosen_anew_for_a_connection_that_comes_about(monkeypatch: pytest.MonkeyPatch) -> None:
    """To rank thousands of instances takes time, and only a failure, or its end, can change the choice."""
    balancer, _ = make(*instances(20), max_endpoints=5, subset_key="client-1")
    ranked: list[object] = []

    def nearest(instances: list[Instance], *_: object, **__: object) -> list[Instance]:
        ranked.append(instances)
        return instances[:5]

    monkeypatch.setattr("grpc_balancer.balancer.nearest", nearest)
    endpoint = balancer.endpoints[0]
    for state in (ChannelConnectivity.IDLE, ChannelConnectivity.CONNECTING, READY):
        endpoint.connectivity = state
        assert not balancer.connectivity_changed(endpoint).open
    assert not ranked
    endpoint.connectivity = ChannelConnectivity.TRANSIENT_FAILURE
    balancer.connectivity_changed(endpoint)
    assert ranked


def test_a_member_of_the_subset_drains_in_peace() -> None:
    """An endpoint of the subset that begins to drain keeps its connection, and another one takes its place."""
    listed = instances(20)
    balancer, _ = make(*listed, max_endpoints=5, subset_key="client-1")
    leaving = balancer.endpoints[0].instance
    drained = [
        Instance(one.service, one.address, id=one.id, state=State.DRAINING if one == leaving else State.SERVING)
        for one in listed
    ]
    changes = balancer.apply(snapshot(2, *drained))
    assert (len(changes.open), changes.retire) == (1, ())


def test_an_explanation_says_why_each_is_in_or_out() -> None:
    """Candidates have scores; who is left out has a reason: draining, not connected, ejected, not in the subset."""
    listed = instances(5)
    balancer, _ = make(*listed, policy="least_outstanding", outlier_detection=OutlierDetection())
    fail(balancer, "1")
    away = balancer.endpoints[2]
    away.connectivity, away.error = ChannelConnectivity.TRANSIENT_FAILURE, "Connection refused"
    balancer.connectivity_changed(away)
    draining = Instance("product", listed[3].address, id="3", state=State.DRAINING)
    balancer.apply(snapshot(2, *listed[:3], draining, listed[4]))
    balancer.endpoints[4].load.begin()
    rows = {row.instance.id: row for row in balancer.explain(CALL)}
    assert {name: row.left_out for name, row in rows.items()} == {
        "0": "",
        "1": "ejected for 30 s more",
        "2": "transient failure: Connection refused",
        "3": "draining",
        "4": "",
    }
    assert rows["1"].score is None
    assert rows["0"].score is not None
    assert rows["4"].score is not None
    assert rows["0"].score < rows["4"].score
    assert rows["4"].outstanding == 1
