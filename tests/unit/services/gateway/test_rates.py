"""Who asks too often waits, and nobody else does."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shop_services.gateway.rates import Buckets, Proxies, Rates, bucket_of, seconds
from shop_services.runtime.settings import SettingError


class Clock:
    """Stands still until it is moved."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


GUARDED = [("POST", "/v1/users:login"), ("POST", "/v1/users")]


def request(peer: str = "192.0.2.1", path: str = "/v1/products", method: str = "GET", **headers: str) -> dict[str, Any]:
    """A request's scope; `x_forwarded_for` is the header of that name."""
    pairs = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    return {"client": (peer, 1), "method": method, "path": path, "headers": pairs}


def test_a_burst_passes_and_then_the_rate() -> None:
    """As many as the burst at once, then one for each interval; a pause fills the bucket again, and no further."""
    clock = Clock()
    buckets = Buckets(10, 3, now=clock)
    for pause in (0.0, 100.0):
        clock.now += pause
        for _ in range(3):
            assert buckets.wait(b"a") == 0
            buckets.take(b"a")
        assert buckets.wait(b"a") == pytest.approx(0.1)
        assert buckets.wait(b"b") == 0
        clock.now += 0.1001
        assert buckets.wait(b"a") == 0


@given(
    rate=st.integers(1, 1000), burst=st.integers(1, 50), pauses=st.lists(st.floats(0, 0.5), min_size=1, max_size=200)
)
def test_no_more_than_burst_and_rate_pass(rate: int, burst: int, pauses: list[float]) -> None:
    """Whenever requests come, no stretch of time sees more of them than the burst and the rate allow."""
    clock = Clock()
    buckets = Buckets(rate, burst, now=clock)
    passed = []
    for pause in pauses:
        clock.now += pause
        if not buckets.wait(b"a"):
            buckets.take(b"a")
            passed.append(clock.now)
    for first, began in enumerate(passed):
        for last in range(first, len(passed)):
            assert last - first + 1 <= burst + rate * (passed[last] - began) + 1e-6


def test_the_table_is_bounded() -> None:
    """Whoever makes up keys makes others forgotten, and takes no more memory."""
    buckets = Buckets(1, 1, kept=100, now=Clock())
    for number in range(1000):
        buckets.take(b"%d" % number)
    assert len(buckets) == 100
    assert buckets.wait(b"999") > 0
    assert buckets.wait(b"0") == 0


def test_address_and_token_have_a_bucket_each() -> None:
    """A token is limited from wherever it comes, an address whatever its tokens are; a refusal takes nothing."""
    rates = Rates(1, 2, Proxies(""), now=Clock())
    assert rates.wait(request("192.0.2.1", authorization="Bearer t")) == 0
    assert rates.wait(request("192.0.2.2", authorization="Bearer t")) == 0
    for _ in range(10):
        assert rates.wait(request("192.0.2.3", authorization="Bearer t")) == pytest.approx(1)
    assert rates.wait(request("192.0.2.3", authorization="Bearer u")) == 0
    assert rates.wait(request("192.0.2.3")) == 0
    assert rates.wait(request("192.0.2.3", authorization="Bearer v")) == pytest.approx(1)
    assert rates.exhausted(bucket_of("192.0.2.3")) == pytest.approx(1)
    assert rates.exhausted(bucket_of("192.0.2.2")) == 0


def test_guarded_routes_have_tight_buckets_by_address() -> None:
    """Passwords are tried at most twenty times at once, whatever else may be asked."""
    clock = Clock()
    rates = Rates(1000, 1000, Proxies(""), guarded=GUARDED, now=clock)
    for _ in range(20):
        assert rates.wait(request(path="/v1/users:login", method="POST")) == 0
    assert rates.wait(request(path="/v1/users:login", method="POST")) == pytest.approx(1)
    assert rates.wait(request(path="/v1/users:login")) == 0
    assert rates.wait(request(path="/v1/users", method="POST")) == 0
    assert rates.wait(request(path="/v1/products")) == 0
    assert rates.wait(request("192.0.2.2", path="/v1/users:login", method="POST")) == 0
    clock.now += 1.001
    assert rates.wait(request(path="/v1/users:login", method="POST")) == 0
    assert rates.wait(request(path="/v1/users:login", method="POST")) > 0


def test_rate_0_lifts_all_limits() -> None:
    """Also the tight ones."""
    rates = Rates(0, 1, Proxies(""), guarded=GUARDED, now=Clock())
    assert not rates.limits
    assert all(rates.wait(request(path="/v1/users:login", method="POST")) == 0 for _ in range(100))
    assert rates.exhausted(b"x") == 0


def test_a_network_of_ipv6_is_one_client() -> None:
    """A customer has 2^64 addresses; an IPv4 address is the same, however it is written."""
    assert bucket_of("2001:db8::1") == bucket_of("2001:db8::ffff:1") != bucket_of("2001:db8:0:1::1")
    assert bucket_of("::ffff:192.0.2.1") != bucket_of("::ffff:192.0.2.2")
    assert bucket_of("fe80::1%eth0") == bucket_of("fe80::2")


@pytest.mark.parametrize(
    ("peer", "forwarded", "client"),
    [
        ("192.0.2.1", "198.51.100.9", "192.0.2.1"),  # nobody whom we trust says so
        ("10.0.0.1", "198.51.100.9", "198.51.100.9"),
        ("10.0.0.1", "6.6.6.6, 198.51.100.9", "198.51.100.9"),  # what the client itself has put in front
        ("10.0.0.1", "6.6.6.6, 198.51.100.9, 10.0.0.2", "198.51.100.9"),
        ("10.0.0.1", "10.0.0.3, 10.0.0.2", "10.0.0.3"),
        ("10.0.0.1", "", "10.0.0.1"),
        ("10.0.0.1", "6.6.6.6, nonsense, 10.0.0.2", "10.0.0.2"),
        ("::ffff:10.0.0.1", "2001:db8::1", "2001:db8::1"),
        ("", "198.51.100.9", ""),
    ],
)
def test_who_asks_is_the_last_whom_no_trusted_proxy_has_put_in_front(peer: str, forwarded: str, client: str) -> None:
    """X-Forwarded-For is believed as far as trusted proxies wrote it."""
    proxies = Proxies("10.0.0.0/8, 203.0.113.7")
    assert proxies.client(peer, request(x_forwarded_for=forwarded)["headers"]) == client


@pytest.mark.parametrize("listed", ["nonsense", "10.0.0.0/33", "10.0.0.1/8", "10.0.0.1;10.0.0.2"])
def test_a_wrong_list_of_proxies_is_refused(listed: str) -> None:
    """The error names the variable."""
    with pytest.raises(SettingError, match="SHOP_TRUSTED_PROXIES: addresses and networks"):
        Proxies(listed)


@pytest.mark.parametrize(("wait", "header"), [(0.001, b"1"), (1.0, b"1"), (1.2, b"2"), (59.9, b"60")])
def test_a_wait_is_told_in_whole_seconds(wait: float, header: bytes) -> None:
    """Rounded up, and never 0."""
    assert seconds(wait) == header
