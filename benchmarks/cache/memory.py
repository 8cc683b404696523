"""What the memory backend costs, beside what it is made of and what it replaces."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from random import Random

from benchmarks.cache.parts import Part, Plan
from benchmarks.cache.rivals import TTL, Rival, ours, patient, plain, raw
from benchmarks.cache.timing import EVICT, OPERATIONS, VALUE, Keys, full, measure
from benchmarks.cache.weight import bare, weigh
from benchmarks.report import Cell, Promise, Spread, Table
from shop_services.caching.bounded import POLICIES, Policy

AT_MOST = 1.0
FLAT = 1.5
ENTRIES = 10_000
_RAW, _PLAIN, _TIMED, _PATIENT = THEIRS = "cachetools", "aiocache", "aiocache, TTL", "aiocache, timeout=5"


async def costs(plan: Plan) -> Part:
    """Microseconds of each operation with each policy."""
    replaced = [await full(rival, ENTRIES) for rival in (plain(), plain(ttl=TTL), patient())]
    times: list[tuple[Cell, ...]] = []
    ratios: list[tuple[Cell, ...]] = []
    promises = []
    for policy in POLICIES:
        caches = [await full(ours(policy, ENTRIES), ENTRIES), await full(raw(policy, ENTRIES), ENTRIES), *replaced]
        keys = Keys(Random(plan.seed), few=False)
        for what in OPERATIONS:
            own, *others = await measure(what, caches, keys, rounds=plan.rounds, batches=plan.batches)
            compared = dict(zip(THEIRS, (_ratio(own, other) for other in others), strict=True))
            times.append((policy, what, *(Spread(tuple(cost)) for cost in (own, *others))))
            ratios.append((policy, what, *compared.values()))
            promises.append(Promise(f"{policy}, {what}: ours ÷ {_TIMED}", compared[_TIMED].median, AT_MOST))
    title = f"µs, {ENTRIES:,} entries: median (lowest-highest) of the rounds"
    tables = [
        Table(title, ("policy", "what", "ours", *THEIRS), tuple(times)),
        Table("ours ÷ theirs", ("policy", "what", *THEIRS), tuple(ratios)),
    ]
    return Part(tables, promises)


async def growth(plan: Plan) -> Part:
    """Microseconds by the number of entries, and how they grow beside those of cachetools."""
    rows: list[tuple[Cell, ...]] = []
    promises = []
    for policy in POLICIES:
        caches = [await full(make(policy, size), size) for make in (ours, raw) for size in plan.sizes]
        for what in OPERATIONS:
            for few in (True, False):
                if few and what == EVICT:
                    continue  # each time another entry is evicted
                keys = Keys(Random(plan.seed), few=few)
                found = await measure(what, caches, keys, rounds=plan.rounds, batches=plan.batches)
                own, theirs = found[: len(plan.sizes)], found[len(plan.sizes) :]
                which = "few keys" if few else "any key"
                grown, allowed = _grown(own), _grown(theirs)
                rows.append((policy, what, which, *(Spread(tuple(cost)) for cost in own), grown, allowed))
                if what == EVICT:
                    more = _ratio(grown.values, allowed.values)
                    promises.append(Promise(f"{policy}, {what}: growth ÷ {_RAW}' growth", more.median, FLAT))
                if few:
                    promises.append(Promise(f"{policy}, {what}, {which}: dearest size ÷ cheapest", grown.median, FLAT))
    columns = ("policy", "what", "which", *(f"{size:,}" for size in plan.sizes), "dearest ÷ cheapest", "cachetools'")
    return Part([Table("µs, by the number of entries", columns, tuple(rows))], promises)


async def weights(plan: Plan) -> Part:
    """Bytes an entry."""
    rows: list[tuple[Cell, ...]] = []
    number = plan.weighed
    makers: list[tuple[str, Callable[[Policy, int], Rival]]] = [("ours", ours), (_RAW, raw)]
    for policy in POLICIES:
        for name, make in makers:
            weight = await weigh(partial(make, policy, number), number, evicts=True)
            rows.append((name, policy, weight.filled, weight.refilled))
    for name, ttl in ((_PLAIN, None), (_TIMED, TTL)):
        weight = await weigh(partial(plain, ttl=ttl), number, evicts=False)
        rows.append((name, "none", weight.filled, weight.refilled))
    title = f"bytes an entry, {number:,} of them; a key and its value of {len(VALUE)} bytes alone are {bare()}"
    return Part([Table(title, ("cache", "policy", "filled", "after evictions"), tuple(rows))])


def _ratio(costs: Sequence[float], others: Sequence[float]) -> Spread:
    return Spread(tuple(cost / other for cost, other in zip(costs, others, strict=True)))


def _grown(costs: Sequence[Sequence[float]]) -> Spread:
    return Spread(tuple(max(of_round) / min(of_round) for of_round in zip(*costs, strict=True)))
