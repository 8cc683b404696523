"""Outlier detection, with a clock that the tests turn."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from grpc_balancer import outlier
from grpc_balancer.outlier import Detector, Record, panics
from grpc_registry.service_config.model import FailurePercentage, OutlierDetection, SuccessRate

DEFAULT = OutlierDetection()
ALL = OutlierDetection(max_ejection_percent=100)
BY_SUCCESS = replace(ALL, consecutive_failures=0, success_rate=SuccessRate())
BY_FAILURES = replace(ALL, consecutive_failures=0, failure_percentage=FailurePercentage())


class Service:
    """Endpoints e0, e1 … and what happens to them."""

    def __init__(self, size: int, settings: OutlierDetection = ALL, seed: int = 1) -> None:
        self.detector: Detector[str] = Detector(settings, random.Random(seed))
        self.records = {f"e{number}": self.detector.enter(f"e{number}") for number in range(size)}

    def calls(self, name: str, successes: int, failures: int, now: float = 0.0) -> None:
        """That many ends of calls, the failures never in a row where there are successes enough."""
        record = self.records[name]
        for _ in range(failures):
            self.detector.failed(record, now)
            record.consecutive = 0
        for _ in range(successes):
            record.succeeded()

    def fail(self, name: str, times: int, now: float = 0.0) -> bool:
        """So many failures in a row; whether one of them ejected."""
        return sum(self.detector.failed(self.records[name], now) for _ in range(times)) > 0

    def ejected(self) -> list[str]:
        return [name for name, record in self.records.items() if record.ejected]

    def run(self, traffic: Mapping[str, tuple[int, int]]) -> list[str]:
        """An interval with these successes and failures; who is ejected at its end."""
        for name, (successes, failures) in traffic.items():
            self.calls(name, successes, failures)
        self.detector.sweep(10.0)
        return self.ejected()


# What is told


@pytest.mark.parametrize(
    ("settings", "traffic", "told"),
    [
        (BY_SUCCESS, {"e0": (50, 50)} | {f"e{n}": (100, 0) for n in range(1, 10)}, [("success_rate", "")]),
        (BY_FAILURES, {"e0": (5, 95), "e1": (100, 0)}, [("failure_percentage", "")]),
        (
            replace(BY_FAILURES, failure_percentage=FailurePercentage(enforcement_percentage=0)),
            {"e0": (5, 95)},
            [("failure_percentage", "enforcement_percentage")],
        ),
        (
            replace(BY_FAILURES, max_ejection_percent=10),
            {"e0": (5, 95), "e1": (5, 95)},
            [("failure_percentage", ""), ("failure_percentage", "max_ejection_overflow")],
        ),
    ],
)
def test_outliers_are_told_of_by_method(
    settings: OutlierDetection, traffic: Mapping[str, tuple[int, int]], told: list[tuple[str, str]]
) -> None:
    """Each outlier that a sweep finds is told of, with what found it and why it was spared, in gRFC A91's words."""
    service, found = Service(10, settings), list[tuple[str, str]]()
    service.detector.on_outlier = lambda method, spared: found.append((method, spared))
    service.run(traffic)
    assert found == told


def test_failures_in_a_row_are_told_of() -> None:
    """Four failures in a row are nothing, the fifth is told of, and five of another one that may not be ejected."""
    service, found = Service(3, DEFAULT), list[tuple[str, str]]()
    service.detector.on_outlier = lambda method, spared: found.append((method, spared))
    service.fail("e0", 4)
    assert found == []
    service.fail("e0", 1)
    service.fail("e1", 5)
    assert found == [("consecutive_failures", ""), ("consecutive_failures", "max_ejection_overflow")]


# Failures in a row


def test_the_fifth_failure_in_a_row_ejects_at_once() -> None:
    """By default four failures in a row do nothing, and the fifth ejects without waiting for a sweep."""
    service = Service(10, DEFAULT)
    assert not service.fail("e3", 4)
    assert service.fail("e3", 1, now=2.5)
    assert service.ejected() == ["e3"]
    assert service.records["e3"].ejected_at == 2.5
    assert service.detector.ejected == 1


def test_a_success_between_failures_begins_the_count_anew() -> None:
    """Four failures, a success and four failures eject nobody."""
    service = Service(10, DEFAULT)
    service.fail("e0", 4)
    service.records["e0"].succeeded()
    service.fail("e0", 4)
    assert service.ejected() == []


@pytest.mark.parametrize("limit", [1, 2, 7])
def test_the_number_of_failures_is_a_setting(limit: int) -> None:
    """`consecutive_failures` is how many it takes."""
    service = Service(10, replace(DEFAULT, consecutive_failures=limit))
    assert not service.fail("e0", limit - 1)
    assert service.fail("e0", 1)


def test_zero_consecutive_failures_means_never() -> None:
    """0 switches that algorithm off."""
    assert not Service(10, replace(DEFAULT, consecutive_failures=0)).fail("e0", 1_000)


def test_an_ejected_endpoint_is_not_ejected_again() -> None:
    """Calls that were in progress and fail later, or in a panic, do not make an ejection longer."""
    service = Service(10, ALL)
    service.fail("e0", 5, now=1.0)
    assert not service.fail("e0", 50, now=2.0)
    assert (service.records["e0"].ejected_at, service.records["e0"].ejections) == (1.0, 1)


# The bound


@pytest.mark.parametrize(
    ("size", "percent", "most"),
    [(1, 10, 1), (3, 10, 1), (9, 10, 1), (10, 10, 1), (20, 10, 2), (29, 10, 2), (10, 50, 5), (3, 0, 1), (4, 100, 4)],
)
def test_no_more_than_the_share_is_ejected_but_always_one(size: int, percent: int, most: int) -> None:
    """If all fail, as many as `max_ejection_percent` allows are ejected, and one in any case."""
    service = Service(size, replace(DEFAULT, max_ejection_percent=percent))
    for name in service.records:
        service.fail(name, 5)
    assert len(service.ejected()) == service.detector.ejected == most


def test_the_worst_go_first_when_not_all_may() -> None:
    """Under the bound it is the endpoint with the lowest rate of success that is ejected."""
    service = Service(10, replace(BY_FAILURES, max_ejection_percent=10))
    assert service.run({"e1": (10, 90), "e4": (0, 100), "e7": (5, 95)}) == ["e4"]


# Rates


def test_success_rate_ejects_who_is_far_below_the_others() -> None:
    """With rates of 1, 1, 1, 1, 0.5 the mean is 0.9 and the deviation 0.2, so under 0.52 an endpoint is ejected."""
    rates = {f"e{number}": (100, 0) for number in range(4)}
    assert Service(5, BY_SUCCESS).run(rates | {"e4": (50, 50)}) == ["e4"]
    # 0.9 - 2.1 * 0.2 is 0.48
    wider = replace(BY_SUCCESS, success_rate=SuccessRate(stdev_factor=2_100))
    assert Service(5, wider).run(rates | {"e4": (50, 50)}) == []


def test_success_rate_spares_equals() -> None:
    """If all fail alike, nobody is an outlier."""
    assert Service(7, BY_SUCCESS).run({f"e{number}": (30, 70) for number in range(7)}) == []


def test_success_rate_needs_enough_endpoints_with_enough_calls() -> None:
    """Five endpoints with a hundred calls each, or nobody is judged; one with fewer calls is not judged."""
    rates = {f"e{number}": (100, 0) for number in range(4)}
    assert Service(9, BY_SUCCESS).run(rates | {"e4": (49, 50)}) == []
    five = rates | {"e5": (100, 0)}
    assert Service(9, BY_SUCCESS).run(five | {"e4": (0, 99)}) == []
    assert Service(9, BY_SUCCESS).run(five | {"e4": (0, 100)}) == ["e4"]
    fewer = replace(BY_SUCCESS, success_rate=SuccessRate(minimum_hosts=3, request_volume=10))
    assert Service(9, fewer).run({"e0": (10, 0), "e1": (10, 0), "e2": (10, 0), "e3": (10, 0), "e4": (0, 10)}) == ["e4"]


def test_failure_percentage_ejects_from_the_threshold_on() -> None:
    """85 of 100 failures eject, 84 do not, however the others do."""
    assert Service(5, BY_FAILURES).run({"e0": (15, 85), "e1": (16, 84)}) == ["e0"]
    lower = replace(BY_FAILURES, failure_percentage=FailurePercentage(threshold=20))
    assert Service(5, lower).run({"e0": (15, 85), "e1": (81, 19)}) == ["e0"]


def test_failure_percentage_needs_enough_endpoints_and_enough_calls() -> None:
    """Five endpoints, of which only those with fifty calls are judged."""
    assert Service(4, BY_FAILURES).run({"e0": (0, 50)}) == []
    assert Service(5, BY_FAILURES).run({"e0": (0, 49)}) == []
    assert Service(5, BY_FAILURES).run({"e0": (0, 50)}) == ["e0"]
    fewer = replace(BY_FAILURES, failure_percentage=FailurePercentage(minimum_hosts=1, request_volume=2))
    assert Service(1, fewer).run({"e0": (0, 2)}) == ["e0"]


def test_nobody_is_judged_by_no_calls() -> None:
    """With settings of 0 an endpoint without calls has no rate, and is left alone."""
    nothing = replace(
        ALL,
        success_rate=SuccessRate(stdev_factor=0, minimum_hosts=0, request_volume=0),
        failure_percentage=FailurePercentage(threshold=0, minimum_hosts=0, request_volume=0),
    )
    assert Service(3, nothing).run({}) == []


@pytest.mark.parametrize("rates", ["success", "failures"])
def test_enforcement_is_a_share_of_the_outliers(rates: str) -> None:
    """With an enforcement of 30% about 30% of the outliers are ejected, with 0% none and with 100% all."""

    def share(percent: int) -> float:
        if rates == "success":
            enforced = replace(BY_SUCCESS, success_rate=SuccessRate(enforcement_percentage=percent))
        else:
            enforced = replace(BY_FAILURES, failure_percentage=FailurePercentage(enforcement_percentage=percent))
        detector: Detector[int] = Detector(enforced, random.Random(7))
        records = [detector.enter(number) for number in range(1_000)]
        for number, record in enumerate(records):
            record.successes, record.failures = (0, 100) if number % 10 == 0 else (100, 0)
        detector.sweep(10.0)
        return sum(record.ejected for record in records) / 100

    assert share(0) == 0.0
    assert share(30) == pytest.approx(0.3, abs=0.1)
    assert share(100) == 1.0


def test_each_interval_is_judged_by_itself() -> None:
    """Calls of an interval that is over do not count in the next."""
    service = Service(5, BY_FAILURES)
    assert service.run({"e0": (0, 49)}) == []
    assert service.run({"e0": (0, 49)}) == []


# Time


def test_an_ejection_ends_with_the_first_sweep_after_its_time() -> None:
    """30 s after the ejection, at the sweep, the endpoint is back, with its failures forgotten."""
    service = Service(10, DEFAULT)
    service.fail("e0", 5, now=4.0)
    assert service.detector.ends(service.records["e0"]) == 34.0
    assert [service.detector.sweep(float(now)) for now in (10, 20, 30, 40)] == [False, False, False, True]
    assert service.ejected() == []
    assert service.detector.ejected == 0
    assert not service.fail("e0", 4, now=41.0)


def test_each_ejection_is_longer_up_to_the_most() -> None:
    """30 s, 60 s, 90 s … and never more than `max_ejection_time`."""
    service, now, lengths = Service(10, replace(DEFAULT, max_ejection_time=100.0)), 0.0, []
    for _ in range(5):
        service.fail("e0", 5, now=now)
        ends = service.detector.ends(service.records["e0"])
        lengths.append(ends - now)
        service.detector.sweep(now := ends)
    assert lengths == [30.0, 60.0, 90.0, 100.0, 100.0]


def test_an_interval_without_ejection_takes_one_ejection_back() -> None:
    """After three ejections and two quiet intervals the next ejection is the second in length."""
    service, now = Service(10, DEFAULT), 0.0
    for _ in range(3):
        service.fail("e0", 5, now=now)
        service.detector.sweep(now := service.detector.ends(service.records["e0"]))
    assert service.records["e0"].ejections == 3
    for _ in range(2):
        service.detector.sweep(now := now + 10)
    service.fail("e0", 5, now=now)
    assert service.detector.ends(service.records["e0"]) - now == 60.0


def test_the_longest_ejection_is_at_least_the_base() -> None:
    """A `max_ejection_time` under `base_ejection_time` does not shorten it."""
    service = Service(3, replace(DEFAULT, base_ejection_time=40.0, max_ejection_time=20.0))
    service.fail("e0", 5)
    assert service.detector.ends(service.records["e0"]) == 40.0


def test_new_settings_hold_for_ejections_that_go_on() -> None:
    """A shorter `base_ejection_time` brings an ejected endpoint back earlier."""
    service = Service(10, DEFAULT)
    service.fail("e0", 5)
    service.detector.settings = replace(DEFAULT, base_ejection_time=5.0)
    assert service.detector.sweep(5.0)
    assert service.ejected() == []


def test_who_is_not_ejected_has_no_end_of_it() -> None:
    """Asking for the end of an ejection that is none is an error that names the record."""
    service = Service(1)
    service.records["e0"].succeeded()
    with pytest.raises(ValueError, match="<Record not ejected, 0 ejections, 1 of 1 succeeded>"):
        service.detector.ends(service.records["e0"])


# Changes of the set


def test_leaving_and_coming_back_ends_no_ejection() -> None:
    """An endpoint that flaps in the registry stays ejected, and for as long as before."""
    service = Service(10, DEFAULT)
    service.fail("e0", 5, now=1.0)
    service.detector.leave("e0")
    assert service.detector.ejected == 0
    assert service.fail("e1", 5, now=2.0)  # one may always be ejected, and none is
    record = service.detector.enter("e0")
    assert (record.ejected_at, record.ejections, service.detector.ejected) == (1.0, 1, 2)
    assert repr(record) == "<Record ejected at 1.000, 1 ejections, 0 of 5 succeeded>"


def test_counters_survive_a_short_absence() -> None:
    """An endpoint that flaps in the registry goes on where it was, also if it was not ejected yet, and one that stays
    away for an interval begins anew."""
    service = Service(10, DEFAULT)
    service.calls("e0", successes=7, failures=1)
    service.fail("e0", 4)
    service.detector.leave("e0")
    assert service.detector.enter("e0") is service.records["e0"]
    assert service.records["e0"].total == 12
    assert service.fail("e0", 1)
    service.fail("e1", 4)
    service.detector.leave("e1")
    service.detector.sweep(10.0)
    assert service.detector.enter("e1").consecutive == 0


def test_the_others_do_not_notice_a_change_of_the_set() -> None:
    """Counters of an endpoint that stays survive that others come and go."""
    service = Service(10, DEFAULT)
    service.fail("e0", 4)
    service.detector.leave("e1")
    service.detector.enter("new")
    assert service.detector.enter("e0") is service.records["e0"]
    assert service.fail("e0", 1)


def test_calls_that_end_after_their_endpoint_left_eject_nobody() -> None:
    """The failures of an endpoint that was retired do not use up the share of the others."""
    service = Service(10, DEFAULT)
    service.detector.leave("e0")
    assert not service.fail("e0", 50)
    assert service.detector.ejected == 0
    assert service.fail("e1", 5)


def test_time_goes_on_for_those_who_left() -> None:
    """An endpoint that comes back long after its ejection is as good as new, and was forgotten meanwhile."""
    service = Service(10, DEFAULT)
    service.fail("e0", 5)
    service.detector.leave("e0")
    for now in (30.0, 40.0):
        service.detector.sweep(now)
    assert service.detector.enter("e0") is not service.records["e0"]


def test_memory_of_those_who_left_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of more ejected endpoints that left than are remembered, the latest are."""
    monkeypatch.setattr(outlier, "_REMEMBERED", 3)
    service = Service(5, ALL)
    for name in service.records:
        service.fail(name, 5)
        service.detector.leave(name)
    assert [service.detector.enter(name).ejected for name in service.records] == [False, False, True, True, True]


def test_panic_is_less_than_half() -> None:
    """Ejections count while half of the endpoints are left, and not with fewer."""
    assert not panics(2, 4)
    assert panics(1, 4)
    assert panics(0, 1)
    assert not panics(0, 0)
    assert not panics(2, 3)


# Properties


class Outliers(RuleBasedStateMachine):
    """Any traffic, sweeps and changes of a set of up to twelve endpoints, under any settings."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.settings = replace(
            DEFAULT,
            max_ejection_percent=30,
            consecutive_failures=3,
            success_rate=SuccessRate(minimum_hosts=2, request_volume=5, stdev_factor=500),
            failure_percentage=FailurePercentage(minimum_hosts=2, request_volume=5, enforcement_percentage=50),
        )
        self.detector: Detector[int] = Detector(self.settings, random.Random(3))
        self.present: dict[int, Record] = {}

    def ejected(self) -> int:
        return sum(record.ejected for record in self.present.values())

    @rule(name=st.integers(0, 11))
    def enter(self, name: int) -> None:
        self.present[name] = self.detector.enter(name)

    @precondition(lambda self: self.present)
    @rule(which=st.integers(0, 11))
    def leave(self, which: int) -> None:
        name = sorted(self.present)[which % len(self.present)]
        del self.present[name]
        self.detector.leave(name)

    @precondition(lambda self: self.present)
    @rule(which=st.integers(0, 11), successes=st.integers(0, 9), failures=st.integers(0, 9))
    def calls(self, which: int, successes: int, failures: int) -> None:
        record = self.present[sorted(self.present)[which % len(self.present)]]
        for _ in range(successes):
            record.succeeded()
            assert record.consecutive == 0
        for _ in range(failures):
            before = self.ejected()
            if self.detector.failed(record, self.now):
                assert self.ejected() == before + 1
                self.within_the_bound()

    @rule(seconds=st.floats(0.1, 40))
    def sweep(self, seconds: float) -> None:
        self.now += seconds
        before = {name for name, record in self.present.items() if record.ejected}
        changed = self.detector.sweep(self.now)
        after = {name for name, record in self.present.items() if record.ejected}
        assert changed or before == after
        if after - before:
            self.within_the_bound(len(before - after))
        for name in after & before:
            assert self.detector.ends(self.present[name]) > self.now
        for record in self.present.values():
            assert record.total == 0

    def within_the_bound(self, readmitted: int = 0) -> None:
        """What was ejected just now was allowed; `readmitted` of the ejected went after that."""
        ejected = self.ejected() + readmitted
        assert ejected == 1 or 100 * ejected <= self.settings.max_ejection_percent * len(self.present)

    @invariant()
    def counts_who_is_ejected(self) -> None:
        assert self.detector.ejected == self.ejected()

    @invariant()
    def every_ejection_ends(self) -> None:
        for record in self.present.values():
            if record.ejected_at is not None:
                assert 0 < self.detector.ends(record) - record.ejected_at <= self.settings.max_ejection_time

    def teardown(self) -> None:
        self.detector.sweep(self.now + self.settings.max_ejection_time)
        self.detector.sweep(self.now + 2 * self.settings.max_ejection_time)
        assert self.ejected() == 0


TestOutliers = Outliers.TestCase


@settings(max_examples=30)
@given(seed=st.integers(0, 2**32), calls=st.lists(st.tuples(st.integers(0, 9), st.booleans()), max_size=300))
def test_the_same_seed_and_calls_eject_the_same(seed: int, calls: list[tuple[int, bool]]) -> None:
    """Two detectors with one seed that see the same calls and sweeps agree at every step."""
    strict = replace(
        ALL,
        success_rate=SuccessRate(minimum_hosts=2, request_volume=3, enforcement_percentage=50),
        failure_percentage=FailurePercentage(
            minimum_hosts=1, request_volume=3, threshold=50, enforcement_percentage=50
        ),
    )
    services = [Service(10, strict, seed) for _ in range(2)]
    for step, (number, succeeds) in enumerate(calls):
        for service in services:
            if succeeds:
                service.records[f"e{number}"].succeeded()
            else:
                service.fail(f"e{number}", 1, now=float(step))
            if step % 25 == 24:
                service.detector.sweep(float(step))
        assert services[0].ejected() == services[1].ejected()
