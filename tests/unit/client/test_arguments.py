"""Wrong arguments are refused where they are given, by name, and not found out by the first call."""

from __future__ import annotations

import re
from typing import Any

import grpc
import pytest

from grpc_balancer import Channel, FailurePercentage, OutlierDetection, OutstandingLimit, SuccessRate
from grpc_balancer.testing import ManualResolver


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"credentials": "/tls/ca.pem"}, "credentials of type str: grpc.ChannelCredentials, TlsFiles, or None"),
        ({"credentials": grpc.access_token_call_credentials("t")}, "credentials of type CallCredentials"),
        ({"compression": "gzip"}, "compression 'gzip': Compression, or None"),
        ({"outlier_detection": True}, "outlier_detection True: OutlierDetection, or None"),
        ({"limit": 5}, "limit 5: OutstandingLimit, or None"),
        ({"on_pick": 5}, "on_pick 5: a function"),
        ({"max_endpoints": 1.5}, "max_endpoints 1.5: a whole number, at least 1, or None"),
        ({"max_endpoints": 0}, "max_endpoints 0: a whole number"),
        ({"subset_key": 5}, "subset_key 5: a text"),
        ({"zone": 5}, "zone 5: a text"),
        ({"slow_start": "x"}, "slow_start 'x': a number of seconds"),
        ({"slow_start": -1}, "slow_start -1: a number of seconds"),
        ({"drain_seconds": None}, "drain_seconds None: a number of seconds"),
    ],
)
async def test_a_channel_says_what_is_wrong(wrong: dict[str, Any], message: str) -> None:
    """The error names the argument, its value, and what it may be. Above all nothing is sent in plain text for it."""
    with pytest.raises((TypeError, ValueError)) as caught:
        Channel("product", ManualResolver(), **wrong)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: OutlierDetection(consecutive_failures=-1), "consecutive_failures -1: a whole number from 0"),
        (lambda: OutlierDetection(consecutive_failures="5"), "consecutive_failures '5': a whole number"),  # type: ignore[arg-type]
        (lambda: OutlierDetection(interval=0), "interval 0: a number from 0.001"),
        (lambda: OutlierDetection(max_ejection_percent=101), "max_ejection_percent 101: a whole number from 0 to 100"),
        (lambda: OutlierDetection(failure_percentage=50), "failure_percentage 50: a FailurePercentage, or None"),  # type: ignore[arg-type]
        (lambda: FailurePercentage(threshold=500), "threshold 500: a whole number from 0 to 100"),
        (lambda: SuccessRate(request_volume=-1), "request_volume -1: a whole number from 0"),
        (lambda: OutstandingLimit(0), "per_endpoint 0: a number of calls, at least 1"),
        (lambda: OutstandingLimit(1, queue=-1), "queue -1: a number of calls, at least 0"),
    ],
)
def test_settings_say_what_is_wrong(make: Any, message: str) -> None:
    """Settings in code obey the rules of those in a service config."""
    with pytest.raises(ValueError, match=re.escape(message)):
        make()
