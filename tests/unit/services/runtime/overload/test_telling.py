"""Refusals are told now and then."""

from __future__ import annotations

from collections.abc import Callable

from structlog.testing import capture_logs

from shop_services.runtime.overload import Telling


class Timer:
    def __init__(self, due: float, call: Callable[[], None]) -> None:
        self.due, self.call = due, call
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True


class Loop:
    """Time that passes when a test says so."""

    def __init__(self) -> None:
        self.now = 100.0
        self._timers: list[Timer] = []

    def later(self, seconds: float, call: Callable[[], None]) -> Timer:
        timer = Timer(self.now + seconds, call)
        self._timers.append(timer)
        return timer

    @property
    def waiting(self) -> list[Timer]:
        """Timers that will call."""
        return [timer for timer in self._timers if not timer.cancelled]

    def passes(self, seconds: float) -> None:
        self.now += seconds
        for timer in [timer for timer in self.waiting if timer.due <= self.now]:
            self._timers.remove(timer)
            timer.call()


def test_a_flood_of_refusals_is_a_line_each_five_seconds() -> None:
    """The first one is told at once, the others together, with what is known of the last."""
    loop = Loop()
    telling = Telling("overloaded", loop.later)
    with capture_logs() as lines:
        for second in range(11):
            for _ in range(1000):
                telling.refused(limit=second)
            loop.passes(1)
    assert [(line["event"], line["refused"], line["limit"]) for line in lines] == [
        ("overloaded", 1, 0),
        ("overloaded", 4999, 4),
        ("overloaded", 5000, 9),
    ]


def test_the_rest_of_a_burst_is_told_though_nothing_follows() -> None:
    """Five seconds after the first line; then nothing waits any more, and the next one is told at once again."""
    loop = Loop()
    telling = Telling("rate_limited", loop.later)
    with capture_logs() as lines:
        for _ in range(40):
            telling.refused()
        loop.passes(4.9)
        assert [line["refused"] for line in lines] == [1]
        loop.passes(0.1)
        assert [line["refused"] for line in lines] == [1, 39]
        loop.passes(5)
        assert not loop.waiting
        telling.refused()
        assert [line["refused"] for line in lines] == [1, 39, 1]


def test_closing_tells_what_is_left() -> None:
    """At once; no timer is left, and closing what is closed tells nothing."""
    loop = Loop()
    telling = Telling("rate_limited", loop.later)
    with capture_logs() as lines:
        for _ in range(3):
            telling.refused()
        telling.close()
        telling.close()
    assert [line["refused"] for line in lines] == [1, 2]
    assert not loop.waiting


async def test_the_time_is_the_event_loops() -> None:
    """Without another one given."""
    telling = Telling("rate_limited")
    with capture_logs() as lines:
        telling.refused()
        telling.refused()
        telling.close()
    assert [line["refused"] for line in lines] == [1, 1]
