"""A latch lets everybody go, and never too early."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor

from grpc_balancer.sync.latch import LOOK_SECONDS, Latch


def test_waiting_ends_when_it_is_set() -> None:
    """All who wait go on, and who comes later need not wait."""
    latch = Latch()
    with ThreadPoolExecutor(8) as pool:
        waiting = [pool.submit(latch.wait, 10) for _ in range(8)]
        latch.set()
        assert all(each.result(10) for each in waiting)
    assert latch.wait()
    assert latch.wait(0)


def test_waiting_ends_with_its_time() -> None:
    """A wait takes as long as it is told, and says that nothing has happened."""
    latch = Latch()
    started = time.monotonic()
    assert not latch.wait(0.05)
    assert time.monotonic() - started >= 0.05
    assert not latch.wait(0)
    assert not latch.wait(-1)
    assert latch._waiters == []
    latch.set()
    assert latch.is_set


def test_the_main_thread_waits_as_others_do() -> None:
    """It looks for signals meanwhile, and still waits as long as it is told, or until it is set."""
    latch = Latch()
    started = time.monotonic()
    assert not latch.wait(2.5 * LOOK_SECONDS)
    assert time.monotonic() - started >= 2.5 * LOOK_SECONDS
    assert latch._waiters == []
    setting = threading.Timer(1.5 * LOOK_SECONDS, latch.set)
    setting.start()
    assert latch.wait()
    setting.join()


def test_no_wait_is_missed() -> None:
    """Setting at the very moment of waiting wakes, too, whatever the interleaving."""
    for _ in range(300):
        latch, met = Latch(), threading.Barrier(2)

        def wait(latch: Latch = latch, met: threading.Barrier = met) -> bool:
            met.wait(10)
            return latch.wait(10)

        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(wait)
            met.wait(10)
            latch.set()
            assert waiting.result(10)
