"""The deadlines know whose time is over, whatever came, went and moved."""

from __future__ import annotations

import math
from collections.abc import Callable
from random import Random

import pytest

from shop_services.caching.deadlines import Deadlines, Entry


def inside(deadlines: Deadlines) -> dict[Entry[int], float]:
    """What the queues and the heap have, checked: links go both ways, order holds, places are right."""
    found: dict[Entry[int], float] = {}
    for root in deadlines._queues:
        before, entry = root, root.after
        while entry is not root:
            assert entry.before is before
            assert entry.deadline >= before.deadline
            assert entry.place < 0
            found[entry] = entry.deadline
            before, entry = entry, entry.after
        assert root.before is before
    for place, entry in enumerate(deadlines._heap[1:], start=1):
        assert entry.place == place
        assert entry.deadline >= deadlines._heap[place // 2].deadline
        found[entry] = entry.deadline
    assert len(deadlines) == len(found)
    return found


def scattered(rng: Random, now: float) -> float:
    return now + rng.randint(1, 500)


def of_one_ttl(rng: Random, now: float) -> float:
    return now + 100


def of_three_ttls(rng: Random, now: float) -> float:
    return now + rng.choice([50, 100, 300])


@pytest.mark.parametrize("deadline", [scattered, of_one_ttl, of_three_ttls])
def test_entries_come_move_leave_and_end(deadline: Callable[[Random, float], float]) -> None:
    """After each of thousands of changes it has what a plain table has, and finds one that is over if there is one."""
    rng = Random(1)
    deadlines = Deadlines()
    entries = [Entry(str(i), i, 0) for i in range(150)]
    table: dict[Entry[int], float] = {}
    now = 0.0
    ended = 0
    for _ in range(4000):
        now += rng.randint(0, 2)
        entry = rng.choice(entries)
        if rng.random() < 0.7:
            table[entry] = deadline(rng, now)
            deadlines.put(entry, table[entry])
        else:
            table.pop(entry, None)
            deadlines.discard(entry)
        assert inside(deadlines) == table
        over = deadlines.over(now)
        if over is None:
            assert min(table.values(), default=math.inf) > now
        elif rng.random() < 0.5:
            assert table.pop(over) <= now
            deadlines.discard(over)
            ended += 1
    assert ended > 100
    while (over := deadlines.over(math.inf)) is not None:
        deadlines.discard(over)
        del table[over]
    assert not table


def test_one_ttl_needs_no_heap() -> None:
    """Nor do two, whichever comes first: this is what makes them fast."""
    deadlines = Deadlines()
    for now in range(100):
        deadlines.put(Entry(str(now), now, 0), now + (60.0 if now % 3 else 300.0))
    assert len(deadlines._heap) == 1
    assert len(inside(deadlines)) == 100


def test_one_that_is_gone_is_held_by_nobody() -> None:
    """Its neighbours know each other, and it knows none of them."""
    deadlines = Deadlines()
    entries = [Entry(str(i), i, 0) for i in range(3)]
    for entry in entries:
        deadlines.put(entry, 1.0)
    deadlines.discard(entries[1])
    deadlines.discard(entries[1])
    assert (entries[1].before, entries[1].after, entries[1].place) == (None, None, 0)
    assert set(inside(deadlines)) == {entries[0], entries[2]}
