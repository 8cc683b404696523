"""A worker says what it can work on."""

from __future__ import annotations

import pytest

from shop_services.order.wiring import CONCURRENCY, RETRIES
from shop_services.order.worker import main


@pytest.mark.parametrize(
    ("arguments", "why"),
    [([], "no topic given"), (["bananas"], "unknown topic 'bananas'"), (["orders", "payments"], "'orders payments'")],
)
def test_an_unknown_topic_is_refused(arguments: list[str], why: str, capsys: pytest.CaptureFixture[str]) -> None:
    """In one line that names the topics; to start it again would not help."""
    assert main(arguments) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert why in line
    assert line.endswith("needs one of orders, payments, inventory")


def test_every_topic_outlives_an_outage_of_minutes() -> None:
    """Its attempts take longer than a restart of anything, and end before an order is given up for its age."""
    assert set(RETRIES) == set(CONCURRENCY)
    for policy in RETRIES.values():
        waits = [min(policy.first * policy.factor**n, policy.longest) for n in range(policy.attempts - 1)]
        assert 300 < sum(waits) < 900
