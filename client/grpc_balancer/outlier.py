"""Outlier detection: endpoints that keep failing are ejected for a while. Counting and deciding, no clock and no timer.

A server that fails is worse than one that is gone: its connection stays, so calls keep coming to it. gRFC A50 and
Envoy agree on how to find it: by failures in a row, by a rate of success far below that of the others, or by too many
failures in an interval. The first ejects at once, the others when an interval ends.

Each endpoint has a `Record`, which is its own and not that of a place in a list, so changes of the set lose nothing.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable, Iterable
from random import Random
from typing import Generic, TypeVar

from grpc_registry.service_config.model import FailurePercentage, OutlierDetection, SuccessRate

K = TypeVar("K")

_REMEMBERED = 1_000
"""How many of the endpoints that left with failures to their name are remembered at most, in case they return."""


class Record:
    """How calls to an endpoint went, and what came of it for the endpoint."""

    __slots__ = ("consecutive", "ejected_at", "ejections", "failures", "listed", "successes")

    def __init__(self) -> None:
        self.successes = 0
        self.failures = 0
        """Both since the last sweep."""
        self.consecutive = 0
        """Failures since the last success."""
        self.ejected_at: float | None = None
        """When it was ejected; None if it is not."""
        self.ejections = 0
        """By what the next ejection time is multiplied: one more each ejection, one less each interval without."""
        self.listed = True
        """Whether the endpoint is one of the set now. Calls to one that left may end later, and count no more."""

    @property
    def ejected(self) -> bool:
        return self.ejected_at is not None

    @property
    def total(self) -> int:
        return self.successes + self.failures

    @property
    def success_rate(self) -> float:
        """From 0 to 1, in this interval. Ask only if there were calls."""
        return self.successes / self.total

    def succeeded(self) -> None:
        self.successes += 1
        self.consecutive = 0

    def __repr__(self) -> str:
        state = f"ejected at {self.ejected_at:.3f}" if self.ejected_at is not None else "not ejected"
        return f"<Record {state}, {self.ejections} ejections, {self.successes} of {self.total} succeeded>"


class Detector(Generic[K]):
    """Ejects and readmits the endpoints of one service, known by keys of any kind. Not thread-safe.

    `enter` and `leave` keep the set. `Record.succeeded` and `failed` take the ends of calls, `sweep` is to be called
    each `settings.interval` seconds. `now` is in seconds, of any clock that does not go back. `settings` may be
    replaced at any time; ejections that go on obey the new ones.
    """

    def __init__(self, settings: OutlierDetection, rng: Random) -> None:
        self.settings = settings
        self.ejected = 0
        """How many of the set are ejected."""
        self.on_outlier: Callable[[str, str], object] | None = None
        """Called with the way in which an outlier was found, and why it is not ejected (empty: it is), as in A91."""
        self._rng = rng
        self._records: dict[K, Record] = {}
        self._departed: OrderedDict[K, Record] = OrderedDict()

    def enter(self, key: K) -> Record:
        """The record of an endpoint of the set; the one it had if it is there, or left lately, or in disgrace."""
        if key not in self._records:
            record = self._departed.pop(key) if key in self._departed else Record()
            record.listed = True
            self._records[key] = record
            self.ejected += record.ejected
        return self._records[key]

    def leave(self, key: K) -> None:
        """The endpoint is no longer in the set. Raises `KeyError` if it was not."""
        record = self._records.pop(key)
        record.listed = False
        self.ejected -= record.ejected
        if record.ejections or record.failures or record.consecutive:
            self._departed[key] = record
            while len(self._departed) > _REMEMBERED:
                self._departed.popitem(last=False)

    def failed(self, record: Record, now: float) -> bool:
        """A call failed. Whether the endpoint is ejected for it."""
        record.failures += 1
        record.consecutive += 1
        limit = self.settings.consecutive_failures
        if not limit or record.consecutive < limit or record.ejected or not record.listed:
            return False
        # As in Envoy the count begins anew, also if nothing more may be ejected.
        record.consecutive = 0
        return self._eject(record, now, "consecutive_failures")

    def sweep(self, now: float) -> bool:
        """An interval is over: eject by rates, readmit, forgive, and count anew. Whether anyone was or is ejected."""
        changed = False
        if (by_success := self.settings.success_rate) is not None:
            outliers = self._below_the_others(by_success)
            changed |= self._eject_all(outliers, by_success.enforcement_percentage, now, "success_rate")
        if (by_failures := self.settings.failure_percentage) is not None:
            outliers = self._failing(by_failures)
            changed |= self._eject_all(outliers, by_failures.enforcement_percentage, now, "failure_percentage")
        for record in self._records.values():
            if self._age(record, now):
                self.ejected -= 1
                changed = True
            # gRFC A50: "the inactive bucket contains the number of successes and failures since the last time the
            # timer triggered"; those have been looked at, so one bucket will do.
            record.successes = record.failures = 0
        for key, record in list(self._departed.items()):
            self._age(record, now)
            record.successes = record.failures = 0
            if not record.ejections:
                del self._departed[key]
        return changed

    def lost_connection(self, record: Record) -> None:
        """The endpoint's connection was lost: whoever makes the next one gets a new chance.

        A process that was killed fails all its calls at once, and another one may serve at its address a second later.
        Nobody picks an endpoint without a connection meanwhile. The next ejection is longer all the same.
        """
        record.consecutive = 0
        if record.ejected and record.listed:
            record.ejected_at = None
            self.ejected -= 1

    def ends(self, record: Record) -> float:
        """When an ejection is over. It lasts until the sweep that follows."""
        if record.ejected_at is None:
            raise ValueError(f"{record!r}: there is no end to it")
        settings = self.settings
        # gRFC A50: "ejection_timestamp + min(base_ejection_time * multiplier, max(base_ejection_time,
        # max_ejection_time))"
        longest = max(settings.base_ejection_time, settings.max_ejection_time)
        return record.ejected_at + min(settings.base_ejection_time * record.ejections, longest)

    def _below_the_others(self, settings: SuccessRate) -> list[Record]:
        judged = [record for record in self._unejected() if record.total and record.total >= settings.request_volume]
        # gRFC A50: "If the number of addresses with request volume of at least [request_volume] is less than
        # [minimum_hosts], stop."
        if not judged or len(judged) < settings.minimum_hosts:
            return []
        mean = math.fsum(record.success_rate for record in judged) / len(judged)
        variance = math.fsum((record.success_rate - mean) ** 2 for record in judged) / len(judged)
        # gRFC A50: "If the address's success rate is less than (mean - stdev * (stdev_factor / 1000))"
        threshold = mean - math.sqrt(variance) * settings.stdev_factor / 1000
        return [record for record in judged if record.success_rate < threshold]

    def _failing(self, settings: FailurePercentage) -> list[Record]:
        # gRFC A50: "If the number of addresses is less than [minimum_hosts], stop."
        if len(self._records) < settings.minimum_hosts:
            return []
        return [
            record
            for record in self._unejected()
            # gRFC A50: "If the address's total request volume is less than [request_volume], continue"
            if record.total
            and record.total >= settings.request_volume
            # gRFC A50, on the field and as Envoy does: "greater than or equal to this value, it will be ejected"
            and 100 * record.failures >= settings.threshold * record.total
        ]

    def _unejected(self) -> Iterable[Record]:
        return (record for record in self._records.values() if not record.ejected)

    def _eject_all(self, outliers: list[Record], enforcement_percentage: int, now: float, method: str) -> bool:
        """Eject these, the worst first, since there is a bound. Whether any was."""
        changed = False
        for record in sorted(outliers, key=lambda outlier: outlier.success_rate):
            # gRFC A50: "choose a random integer in [0, 100). If that number is less than [enforcement_percentage],
            # eject that address."
            if self._rng.randrange(100) < enforcement_percentage:
                changed |= self._eject(record, now, method)
            else:
                self._tell(method, "enforcement_percentage")
        return changed

    def _eject(self, record: Record, now: float, method: str) -> bool:
        # gRFC A50: "The maximum % of an address list that can be ejected [...] but will eject at least one address
        # regardless of the value." With Envoy the one to be ejected counts, so the bound is not passed.
        if self.ejected and 100 * (self.ejected + 1) > self.settings.max_ejection_percent * len(self._records):
            self._tell(method, "max_ejection_overflow")
            return False
        # gRFC A50: "set the current ejection timestamp [...], increase the ejection time multiplier by 1"
        record.ejected_at = now
        record.ejections += 1
        self.ejected += 1
        self._tell(method, "")
        return True

    def _tell(self, method: str, spared: str) -> None:
        if self.on_outlier is not None:
            self.on_outlier(method, spared)

    def _age(self, record: Record, now: float) -> bool:
        """Let time go on for the endpoint. Whether it is readmitted by that."""
        if record.ejected_at is None:
            # gRFC A50: "If the address is not ejected and the multiplier is greater than 0, decrease the multiplier"
            record.ejections = max(0, record.ejections - 1)
            return False
        if now < self.ends(record):
            return False
        record.ejected_at = None
        record.consecutive = 0  # Envoy: else a failure or two would eject it again
        return True


def panics(available: int, total: int) -> bool:
    """Whether so few of the endpoints are left that ejections had better be ignored.

    Envoy: "if the percentage of available hosts in the cluster becomes too low, Envoy will disregard health status
    [...] The default panic threshold is 50%." If most of the endpoints fail, then they are hardly to blame one by one,
    and the few others would drown.
    """
    return 2 * available < total
