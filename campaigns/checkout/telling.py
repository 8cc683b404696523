"""What a campaign found, as a report: the tables, the promises, and the first who broke each."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.report import Promise, Report, Table, percentile
from campaigns.checkout.facts import Asked, Found, Order
from campaigns.checkout.judgement import PROMISES, Breach, judge
from campaigns.checkout.shoppers import Answers
from campaigns.faults import Kind

_MOST_NAMED = 5


@dataclass(frozen=True, slots=True)
class Campaign:
    """All that one campaign has seen. `placing` and `settling` are seconds; `left` is what had not settled by then.

    `deaths` counts processes that ended otherwise than by a `kill -9`, by what they are and how they ended.
    """

    settings: Mapping[str, Any]
    asked: Asked
    answers: Answers
    found: Found
    dead_letters: Sequence[str]
    left: Mapping[str, int]
    faults: Mapping[tuple[str, Kind], int]
    deaths: Mapping[str, int]
    placing: float
    settling: float


def told(campaign: Campaign) -> Report:
    """The report of it."""
    breaches = judge(campaign.asked, campaign.found)
    broken = Counter(breach.promise for breach in breaches)
    outcomes = Counter(order.status for order in campaign.found.orders)
    return Report(
        "checkout",
        campaign.settings,
        [_outcomes(campaign.found.orders), _faults(campaign.faults), _speed(campaign), _failures(campaign.answers)],
        [
            *(Promise(promise, broken[promise], 0) for promise in PROMISES),
            Promise("messages given up (dead letters)", len(campaign.dead_letters), 0),
            Promise("purchases that were not answered", campaign.settings["orders"] - len(campaign.asked.told), 0),
            Promise("answers that no client should get", len(campaign.answers.wrong), 0),
            Promise("things still under way when the time to settle was over", sum(campaign.left.values()), 0),
            Promise("faults", sum(campaign.faults.values()), 1, at_least=True),
            *(
                Promise(f"orders that are {status}", outcomes[status], 1, at_least=True)
                for status in ("FULFILLED", "FAILED", "CANCELLED")
            ),
        ],
        _notes(campaign, breaches),
        "faults",
    )


def _outcomes(orders: Sequence[Order]) -> Table:
    took = defaultdict[str, list[float]](list)
    for order in orders:
        path = " ".join(step.status for step in order.history)
        times = [step.time for step in order.history]
        took[path].append((max(times) - min(times)).total_seconds() if times else 0.0)
    rows = tuple(
        (path, len(seconds), percentile(seconds, 50), percentile(seconds, 99), max(seconds))
        for path, seconds in sorted(took.items())
    )
    return Table("orders, and the time until they ended", ("path", "orders", "p50 s", "p99 s", "max s"), rows)


def _faults(faults: Mapping[tuple[str, Kind], int]) -> Table:
    return Table("faults", ("what", "how", "times"), tuple((what, how, n) for (what, how), n in sorted(faults.items())))


def _speed(campaign: Campaign) -> Table:
    orders, took = len(campaign.found.orders), [1e3 * seconds for seconds in campaign.answers.took or (math.nan,)]
    rows = (
        ("orders/s while they were placed", orders / campaign.placing),
        ("orders/s until all was done", orders / (campaign.placing + campaign.settling)),
        ("seconds to settle after the last fault", campaign.settling),
        ("ms until an order was recorded, p50", percentile(took, 50)),
        ("ms until an order was recorded, p99", percentile(took, 99)),
        ("cancellations that were refused", sum(not accepted for accepted in campaign.asked.cancelled.values())),
        ("e-mails that arrived more than once", sum(n > 1 for n in campaign.found.arrived.values())),
    )
    return Table("speed", ("what", "value"), rows)


def _failures(answers: Answers) -> Table:
    rows = tuple(sorted(answers.failures.items()))
    return Table("failures after which clients asked again", ("call and status", "times"), rows)


def _notes(campaign: Campaign, breaches: Sequence[Breach]) -> list[str]:
    lines = [f"{what}: {times} times, not by kill -9" for what, times in sorted(campaign.deaths.items())]
    for title, those in (
        ("given up", list(campaign.dead_letters)),
        ("wrong answer", campaign.answers.wrong),
        ("still under way", [f"{count} {what}" for what, count in campaign.left.items()]),
        *(
            (promise, [f"{breach.who} {breach.how}" for breach in breaches if breach.promise == promise])
            for promise in PROMISES
        ),
    ):
        lines += [f"{title}: {line}" for line in those[:_MOST_NAMED]]
        lines += [f"{title}: and {len(those) - _MOST_NAMED} more"] if len(those) > _MOST_NAMED else []
    return lines
