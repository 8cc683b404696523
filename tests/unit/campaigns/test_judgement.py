"""How the scenarios of `buildscripts/faults` judge what they saw."""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from subprocess import PIPE

import pytest

from benchmarks.report import Promise, Report
from campaigns import cli
from campaigns.freeze import normal_seconds, seconds_until_normal
from campaigns.kills import Kill, may_have_been_sent, was_read
from campaigns.server import ONCE, Journal
from campaigns.standstill import Span, without
from campaigns.traffic import Call

KILLS = [Kill("s0-1", before=10.0, after=10.1)]
LOST = Call(7, ONCE, due=9.9, began=9.9, ended=10.05, answered_by="", failure="UNAVAILABLE: Socket closed")
EMPTY = {"s0-1": Journal(frozenset(), frozenset()), "s1-1": Journal(frozenset(), frozenset())}


def seen_by(*ids: str) -> dict[str, Journal]:
    return {id: Journal(frozenset({7} if id in ids else ()), frozenset()) for id in EMPTY}


@pytest.mark.parametrize(
    ("call", "journals", "read", "sent"),
    [
        (LOST, seen_by("s0-1"), True, False),
        (LOST, EMPTY, False, True),
        (LOST, seen_by("s1-1"), False, False),  # that process was not killed
        (LOST, seen_by("s0-1", "s1-1"), False, False),  # it was sent again
        (replace(LOST, ended=9.95), seen_by("s0-1"), False, False),  # it failed before the kill
        (replace(LOST, ended=9.95), EMPTY, False, False),
        (replace(LOST, began=12.0, ended=12.1), EMPTY, False, False),  # it began long after the kill
        (replace(LOST, failure="UNAVAILABLE: no endpoint of 'faults': …"), EMPTY, False, False),
        (replace(LOST, failure="DEADLINE_EXCEEDED: …"), EMPTY, False, False),
    ],
)
def test_a_failed_call_is_excused_only_by_a_process_that_died_with_it(
    call: Call, journals: dict[str, Journal], read: bool, sent: bool
) -> None:
    """Only a call that the killed process had read, or that was on its way and read by nobody, may fail."""
    assert (was_read(call, KILLS, journals), may_have_been_sent(call, KILLS, journals)) == (read, sent)


def calls(*slow: int) -> list[Call]:
    """Ten calls in each of eight seconds from 100.0 on; in the seconds that are `slow` one takes half a second."""
    dues = [100.0 + number / 10 for number in range(80)]
    took = [0.5 if number % 10 == 3 and number // 10 in slow else 0.01 for number in range(80)]
    return [Call(n, ONCE, due, due, due + took[n], "s0-1") for n, due in enumerate(dues)]


@pytest.mark.parametrize(
    ("slow", "seconds"), [((), 0), ((0,), 1), ((0, 1), 2), ((1,), 2), ((7,), 0), ((3,), math.inf), ((0, 4), math.inf)]
)
def test_normal_is_what_lasts(slow: tuple[int, ...], seconds: float) -> None:
    """p99 is back to normal where it begins to be so for five seconds in a row, and never if it does not."""
    each = normal_seconds(calls(*slow), 100.0, 108.0, normal=0.1)
    assert [n for n, normal in enumerate(each) if not normal] == list(slow)
    assert seconds_until_normal(each) == seconds


@pytest.mark.parametrize(
    ("standstills", "seconds"),
    [
        ([(9.0, 9.8), (13.0, 14.0)], 3.0),  # before it, and after it
        ([(9.0, 10.05)], 2.8),  # 0.2 s of it, of which the last 0.05 are the rush that follows
        ([(10.0, 10.95), (10.5, 11.95)], 1.0),  # two at the same time count once
        ([(0.0, 20.0)], 0.0),
    ],
)
def test_a_call_is_not_blamed_for_a_standstill(standstills: list[Span], seconds: float) -> None:
    """The time for which somebody stood still is taken off; what a slow call took beside that still counts."""
    (call,) = without(standstills, [replace(LOST, due=9.9, ended=12.9)])
    assert call.elapsed == pytest.approx(seconds)


def test_a_standstill_is_noted_and_a_blocked_loop_is_none() -> None:
    """A process tells for how long it was stopped; it says nothing of what blocks its loop."""
    program = (
        "import asyncio, sys, time\n"
        "from campaigns.standstill import noted\n"
        "async def main():\n"
        "    with noted(lambda span: print(span[1] - span[0], flush=True)):\n"
        "        await asyncio.sleep(0.1)\n"
        "        time.sleep(3)\n"
        "        await asyncio.sleep(0.1)\n"
        "        print('stop', flush=True)\n"
        "        sys.stdin.readline()\n"
        "asyncio.run(main())\n"
    )
    command = [sys.executable, "-c", program]
    with subprocess.Popen(command, stdin=PIPE, stdout=PIPE, text=True, cwd=Path(__file__).parents[3]) as process:
        assert process.stdout is not None
        before = [0.0]
        while (line := process.stdout.readline()) != "stop\n":
            before.append(float(line))
        process.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, process.pid, os.WSTOPPED)
        time.sleep(1)
        process.send_signal(signal.SIGCONT)
        output, _ = process.communicate("", timeout=30)
    assert max(before) < 3
    assert max(map(float, output.split())) >= 1


@pytest.mark.parametrize(("failed", "code"), [(0, 0), (1, 1)])
def test_the_exit_code_tells(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], failed: int, code: int
) -> None:
    """`buildscripts/faults` ends with 0 only if every promise is kept, and prints which was not."""

    class Fake:
        """A scenario."""

        async def run(self, directory: object, *, seconds: float, rate: float, seed: int) -> Report:
            assert (seconds, rate, seed) == (120.0, 50.0, 3)
            return Report("fake", {"seed": seed}, [], [Promise("failed calls", failed, 0)], command="faults")

    monkeypatch.setitem(cli.SCENARIOS, "fake", Fake())
    assert cli.main(["fake", "--seed", "3", "--rate", "50"]) == code
    assert (
        capsys.readouterr().out.splitlines()[-1] == f"{'MISSED' if code else 'kept'}: failed calls: {failed}, at most 0"
    )


def test_a_rate_has_to_be_positive(capsys: pytest.CaptureFixture[str]) -> None:
    """A rate or a time of nothing is refused, by name."""
    with pytest.raises(SystemExit) as ended:
        cli.main(["kills", "--rate", "0"])
    assert ended.value.code == 2
    assert "--rate: 0: a number above 0" in capsys.readouterr().err
