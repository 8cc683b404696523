"""Which losses speak of a machine, and who is suspect by that."""

from __future__ import annotations

import pytest

from grpc_balancer.hosts import Suspects, call_speaks_of_the_machine, speaks_of_the_machine
from grpc_balancer.testing import FakeEndpoint
from grpc_registry import Instance


def endpoint(name: str, host: str) -> FakeEndpoint:
    return FakeEndpoint(Instance("product", "10.0.0.1:50051", id=name, host=host))


@pytest.mark.parametrize(
    "reason",
    [
        "Stream removed (ping timeout)",
        "Stream removed (recvmsg:Connection timed out (110))",
        "keepalive watchdog timeout",
        "connect() timed out",
        "tcp handshaker shutdown",
        "getsockopt(SO_ERROR): Connection timed out",
        "connection attempt timed out before receiving SETTINGS frame",
        "connect failed: addr: ipv4:10.1.0.1:80 error: No route to host",
        "connect failed: addr: ipv6:%5B2001:db8::1%5D:80 error: Network is unreachable",
        "connect failed: addr: ipv4:10.1.0.1:80 error: Host is unreachable",
        "connect failed: addr: ipv4:10.1.0.1:80 error: Host is down",
        "Operation timed out",
    ],
)
def test_silence_and_no_way_speak_of_the_machine(reason: str) -> None:
    """Timeouts and what routers say make one ask the neighbours."""
    assert speaks_of_the_machine(reason)


@pytest.mark.parametrize(
    "reason",
    [
        "",
        "Connection refused",
        "Stream removed (Socket closed)",
        "recvmsg:Connection reset by peer (104)",
        "Cancelling all calls",
        "GOAWAY received; Error code: 2; Debug Text: Cancelling all calls",
        "connect failed: addr: unix:/tmp/nosuch error: No such file or directory",
        "errors resolving a.test:80: [field:hostname lookup error: Connection timed out]",
        "DNS resolution failed for a.test: Operation timed out",
        "Failed parsing HTTP/2 (Expected SETTINGS frame as the first frame, got frame type 80)",
        "Deadline Exceeded",
        "the operation timed out",
    ],
)
def test_a_process_that_died_says_nothing_of_its_machine(reason: str) -> None:
    """A closed or refused connection, a name that is not found and a server's own words are no reason to ask."""
    assert not speaks_of_the_machine(reason)


def test_of_a_call_only_the_loss_of_its_connection_speaks() -> None:
    """What gRPC says of a lost connection counts, what an application says in the same words does not."""
    assert call_speaks_of_the_machine("Stream removed (ping timeout)")
    assert not call_speaks_of_the_machine("Stream removed (Socket closed)")
    assert not call_speaks_of_the_machine("the database does not answer: Connection timed out")


def test_the_neighbours_become_suspect() -> None:
    """Who shares the host of a lost endpoint is suspect, others are not, and the lost one has no connection anyway."""
    lost, near, far = endpoint("a", "h1"), endpoint("b", "h1"), endpoint("c", "h2")
    suspects = Suspects()
    assert suspects.add(lost, [lost, near, far]) == [near]
    assert [one in suspects for one in (lost, near, far)] == [False, True, False]


def test_nobody_is_suspect_for_a_host_without_name() -> None:
    """Instances that do not say where they run are not taken for neighbours."""
    suspects = Suspects()
    assert suspects.add(endpoint("a", ""), [endpoint("b", "")]) == []
    assert len(suspects) == 0


def test_a_suspect_is_asked_once() -> None:
    """While a suspect has not answered, further losses at its host do not have it asked again."""
    first, second, third = (endpoint(name, "h1") for name in "abc")
    suspects = Suspects()
    assert suspects.add(first, [second, third]) == [second, third]
    assert suspects.add(second, [third]) == []
    assert third in suspects


def test_who_answers_is_suspect_no_more() -> None:
    """An answer ends the suspicion, once; a later loss begins another."""
    lost, near = endpoint("a", "h1"), endpoint("b", "h1")
    suspects = Suspects()
    suspects.add(lost, [near])
    assert suspects.forget(near)
    assert not suspects.forget(near)
    assert near not in suspects
    assert suspects.add(lost, [near]) == [near]
