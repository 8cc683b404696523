"""What a lane holds and when it lets something go, without a bus and a table."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from structlog.testing import capture_logs

from shop.events.v1.events_pb2 import Envelope
from shop_services.messaging import lane as module
from shop_services.messaging.bus import BusFull, Message
from shop_services.messaging.lane import BACKOFF, PROBES, Lane
from shop_services.messaging.outbox_rows import Claimed

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def _row(n: int = 0, seconds: float = 5) -> Claimed:
    return Claimed(Message("orders", Envelope(id=f"m{n}")), NOW + timedelta(seconds=seconds))


class Clock:
    """The monotonic clock, moved by a test."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The lane's monotonic clock."""
    moved = Clock()
    monkeypatch.setattr(module, "time", moved)
    return moved


@pytest.fixture
def lane(clock: Clock) -> Lane:
    """An empty lane."""
    return Lane("orders", Random(1))


def test_old_rows_go_before_new_ones(lane: Lane) -> None:
    """Rows that were swept or tried before are first, each kind in its order."""
    for n in (3, 4):
        lane.offer(_row(n), NOW)
    for n in (1, 2):
        lane.put_first(_row(n))
    taken = []
    while (row := lane.head(NOW)) is not None:
        lane.pop()
        taken.append(row.id)
    assert taken == ["m1", "m2", "m3", "m4"]


def test_rows_whose_claim_has_ended_are_forgotten(lane: Lane) -> None:
    """They are not sent: whoever claims them next does."""
    lane.put_first(_row(1, seconds=0))
    lane.offer(_row(2), NOW)
    head = lane.head(NOW)
    assert head is not None
    assert (head.id, len(lane)) == ("m2", 1)


def test_a_pause_grows_with_failures_and_ends_with_a_success(lane: Lane, clock: Clock) -> None:
    """While it lasts there is nothing to send; after it a few are tried, and after a success all of them."""
    lane.offer(_row(), NOW)
    with capture_logs() as entries:
        pauses = []
        for _ in range(3):
            lane.failed(clock.now, BusFull("full"))
            assert lane.head(NOW) is None
            pauses.append(lane.pause())
            clock.now += lane.pause()
            assert lane.head(NOW) is not None
        lane.sending = PROBES
        assert lane.head(NOW) is None
        lane.worked(clock.now)
        assert lane.head(NOW) is not None
    for n, pause in enumerate(pauses):
        assert 0.8 <= pause / (BACKOFF.first * BACKOFF.factor**n) <= 1.2
    assert [entry["event"] for entry in entries] == ["relay_paused", "relay_resumed"]


def test_what_began_before_a_pause_says_nothing_new(lane: Lane, clock: Clock) -> None:
    """Many failures at a time count once, and a success of before does not end the pause."""
    began = clock.now
    clock.now += 1
    for _ in range(64):
        lane.failed(began, BusFull("full"))
    assert lane.pause() <= BACKOFF.first * 1.2
    lane.worked(began)
    assert not lane.proven


def test_a_lane_is_busy_with_old_rows_alone(lane: Lane, clock: Clock) -> None:
    """New ones do not keep the table from being swept, and neither do rows that wait for a pause to end."""
    lane.offer(_row(1), NOW)
    assert not lane.busy
    lane.put_first(_row(2))
    assert lane.busy
    lane.failed(clock.now, BusFull("full"))
    assert not lane.busy


def test_clearing_gives_everything_back(lane: Lane) -> None:
    """Whoever clears a lane can release the claims."""
    lane.offer(_row(1), NOW)
    lane.put_first(_row(2))
    assert {row.id for row in lane.clear()} == {"m1", "m2"}
    assert len(lane) == 0


@given(st.lists(st.tuples(st.floats(-10, 10), st.floats(0, 3)), max_size=60))
def test_there_is_room_for_new_rows_when_old_claims_have_ended(steps: list[tuple[float, float]]) -> None:
    """A full lane of rows that nobody may send any more is no reason to refuse one."""
    ended = Lane("orders", Random(1))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "MEMORY", 5)
        now = NOW
        for seconds, passed in steps:
            now += timedelta(seconds=passed)
            row = Claimed(Message("orders", Envelope(id="m")), now + timedelta(seconds=abs(seconds)))
            full = len(ended) == 5
            oldest = ended._committed[0] if full else None
            ended.offer(row, now)
            assert len(ended) <= 5
            taken = bool(ended._committed) and ended._committed[-1] is row
            assert taken == (oldest is None or oldest.until <= now)


class Lanes(RuleBasedStateMachine):
    """Any order of what a relay does with a lane."""

    def __init__(self) -> None:
        super().__init__()
        self.lane = Lane("orders", Random(1))
        self.now = NOW
        self.count = 0
        self.began: list[float] = []

    def _new(self) -> Claimed:
        self.count += 1
        return Claimed(Message("orders", Envelope(id=str(self.count))), self.now + timedelta(seconds=5))

    @rule()
    def offer(self) -> None:
        self.lane.offer(self._new(), self.now)

    @rule()
    def sweep(self) -> None:
        self.lane.put_first(self._new())

    @rule(seconds=st.floats(0, 4))
    def wait(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)

    @rule()
    def send(self) -> None:
        if (head := self.lane.head(self.now)) is not None:
            assert head.until > self.now
            assert self.lane.pause() <= 0
            assert self.lane.proven or self.lane.sending < PROBES
            before = len(self.lane)
            self.lane.pop()
            assert len(self.lane) == before - 1
            self.lane.sending += 1
            self.began.append(time.monotonic())

    @rule(worked=st.booleans())
    def end(self, worked: bool) -> None:
        if self.began:
            began = self.began.pop(0)
            self.lane.sending -= 1
            self.lane.worked(began) if worked else self.lane.failed(began, BusFull("full"))

    @invariant()
    def pauses_are_bounded(self) -> None:
        assert self.lane.pause() <= BACKOFF.longest * (1 + BACKOFF.jitter)


test_lanes = Lanes.TestCase
