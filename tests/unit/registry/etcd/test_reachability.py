"""What is logged about an outage."""

from __future__ import annotations

import logging

import pytest

from grpc_registry.etcd.reachability import Reachability


def test_a_refusal_is_logged_once_per_reason_and_rarely_again(caplog: pytest.LogCaptureFixture) -> None:
    """Who retries with a wrong password for six minutes, in turn at two members, warns twice for each; answers that
    come between change nothing."""
    now = 0.0
    reachability = Reachability("etcd://h/mesh", lambda: now)
    for tick in range(3600):
        now = tick / 10
        reachability.refused(f"etcd at h{tick % 2}: wrong password")
        reachability.answered()
    assert sorted(record.getMessage() for record in caplog.records) == [
        "registry etcd://h/mesh refuses: etcd at h0: wrong password",
        "registry etcd://h/mesh refuses: etcd at h0: wrong password",
        "registry etcd://h/mesh refuses: etcd at h1: wrong password",
        "registry etcd://h/mesh refuses: etcd at h1: wrong password",
    ]


def test_an_outage_is_logged_at_its_ends_and_rarely_between(caplog: pytest.LogCaptureFixture) -> None:
    """Twenty minutes of failures, ten a second, make one warning, three reminders and one line at the end."""
    now = 0.0
    reachability = Reachability("etcd://h/mesh", lambda: now)
    caplog.set_level(logging.INFO)
    reachability.answered()
    for tick in range(12_000):
        now = tick / 10
        reachability.failed("refused")
    assert not reachability.reachable
    now = 1200.0
    reachability.answered()
    reachability.answered()
    assert reachability.reachable
    assert [record.getMessage() for record in caplog.records] == [
        "registry etcd://h/mesh unreachable, keeping what is known: refused",
        "registry etcd://h/mesh unreachable for 300 s: refused",
        "registry etcd://h/mesh unreachable for 600 s: refused",
        "registry etcd://h/mesh unreachable for 900 s: refused",
        "registry etcd://h/mesh reachable again after 1200.0 s",
    ]
