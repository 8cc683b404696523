from __future__ import annotations

import pytest
from grpc import ChannelConnectivity, StatusCode

from grpc_balancer.failure import answer_of, local_error, never_reached, outcome_of, reason
from grpc_balancer.load import Outcome

REFUSED = (
    "failed to connect to all addresses; last error: UNKNOWN: ipv4:127.0.0.1:37607: "
    "Failed to connect to remote host: Connection refused"
)


@pytest.mark.parametrize(
    ("code", "details", "state", "expected"),
    [
        (StatusCode.UNAVAILABLE, REFUSED, ChannelConnectivity.TRANSIENT_FAILURE, True),
        (StatusCode.UNAVAILABLE, REFUSED, ChannelConnectivity.IDLE, True),
        (StatusCode.UNAVAILABLE, "errors resolving x:1: [...]", ChannelConnectivity.TRANSIENT_FAILURE, True),
        # A server that passes on what it met on the way to another one says so over a connection.
        (StatusCode.UNAVAILABLE, REFUSED, ChannelConnectivity.READY, False),
        (StatusCode.UNAVAILABLE, "Stream removed (Socket closed)", ChannelConnectivity.IDLE, False),
        (StatusCode.UNAVAILABLE, "Cancelling all calls", ChannelConnectivity.IDLE, False),
        (StatusCode.UNAVAILABLE, None, ChannelConnectivity.IDLE, False),
        (StatusCode.INTERNAL, REFUSED, ChannelConnectivity.TRANSIENT_FAILURE, False),
        (None, REFUSED, ChannelConnectivity.TRANSIENT_FAILURE, False),
    ],
)
def test_only_a_proof_counts(
    code: StatusCode | None, details: str | None, state: ChannelConnectivity, expected: bool
) -> None:
    """A call counts as unseen only with the words of a failed connection and without a connection."""
    assert never_reached(code, details, state) is expected


@pytest.mark.parametrize(
    ("details", "short"),
    [
        (REFUSED, "Connection refused"),
        ("failed to connect to all addresses; last error: UNKNOWN: ipv4:127.0.0.1:1: Tls handshake failed (X)",
         "Tls handshake failed (X)"),
        ("errors resolving x:1: [lookup failed]", "errors resolving x:1: [lookup failed]"),
    ],
)  # fmt: skip
def test_a_reason_leaves_out_what_is_known(details: str, short: str) -> None:
    """Of gRPC's long text remains what is news about an address."""
    assert reason(details) == short


def test_an_answer_that_is_there_needs_no_waiting() -> None:
    """A coroutine that does not wait gives its answer at once, one that does gives None."""

    async def at_once() -> int:
        return 5

    class Never:
        def __await__(self):  # type: ignore[no-untyped-def]
            yield

    async def later() -> int:
        await Never()
        return 5

    assert answer_of(at_once()) == 5
    assert answer_of(later()) is None


def test_our_errors_are_grpcs() -> None:
    """An error that no server sent is an AioRpcError like any other, and says where it is from."""
    error = local_error(StatusCode.UNAVAILABLE, "no endpoint of 'x'")
    assert (error.code(), error.details()) == (StatusCode.UNAVAILABLE, "no endpoint of 'x'")
    assert error.debug_error_string() == "grpc_balancer: no endpoint took the call"
    assert not error.trailing_metadata()


def test_what_a_caller_can_cause_is_not_blamed_on_the_instance() -> None:
    """A used-up quota or a message that is too large (RESOURCE_EXHAUSTED) is no failure of who says so."""
    assert outcome_of(StatusCode.RESOURCE_EXHAUSTED, "too many attempts") is Outcome.SUCCEEDED
    assert outcome_of(StatusCode.UNAVAILABLE, "too much to do") is Outcome.FAILED
