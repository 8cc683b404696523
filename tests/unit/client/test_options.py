from __future__ import annotations

import pytest

from grpc_balancer.options import DEFAULTS, FAST_KEEPALIVE, SERVER_FAST_KEEPALIVE, with_defaults


def test_a_users_option_replaces_the_default() -> None:
    """The same name is given to gRPC once, with the user's value; other options are added."""
    options = dict(with_defaults([("grpc.max_reconnect_backoff_ms", 5_000), ["grpc.primary_user_agent", "me"]]))
    assert options["grpc.max_reconnect_backoff_ms"] == 5_000
    assert options["grpc.primary_user_agent"] == "me"
    assert options["grpc.use_local_subchannel_pool"] == 1
    assert len(with_defaults(FAST_KEEPALIVE)) == len(DEFAULTS) + 1


@pytest.mark.parametrize("option", ["grpc.x", ("grpc.x",), (1, "grpc.x"), ("a", "b", "c")])
def test_what_is_no_option_is_refused(option: object) -> None:
    """The error shows what was given."""
    with pytest.raises(ValueError, match="a pair of a name and a value"):
        with_defaults([option])  # type: ignore[list-item]


def test_the_default_keepalive_is_safe_with_any_server() -> None:
    """A ping at most every five minutes, and none without calls: what servers allow that were not told otherwise."""
    options = dict(DEFAULTS)
    assert options["grpc.keepalive_time_ms"] > 300_000
    assert options["grpc.keepalive_permit_without_calls"] == 0


def test_the_fast_pair_fits() -> None:
    """The server allows pings more often than the client sends them."""
    assert dict(FAST_KEEPALIVE)["grpc.keepalive_time_ms"] > 1.5 * SERVER_FAST_KEEPALIVE[0][1]
