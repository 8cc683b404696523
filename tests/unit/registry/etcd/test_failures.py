"""What etcd's statuses mean."""

from __future__ import annotations

import grpc
import pytest

from grpc_registry import RegistryUnavailable
from grpc_registry.etcd.failures import Failure, classify, translated


@pytest.mark.parametrize(
    ("code", "details", "failure"),
    [
        (grpc.StatusCode.UNAVAILABLE, "etcdserver: leader changed", Failure.ELSEWHERE),
        (grpc.StatusCode.DEADLINE_EXCEEDED, "", Failure.ELSEWHERE),
        (grpc.StatusCode.UNKNOWN, "", Failure.ELSEWHERE),
        (grpc.StatusCode.UNAUTHENTICATED, "etcdserver: invalid auth token", Failure.STALE_TOKEN),
        (grpc.StatusCode.INVALID_ARGUMENT, "etcdserver: revision of auth store is old", Failure.STALE_TOKEN),
        (grpc.StatusCode.OUT_OF_RANGE, "etcdserver: mvcc: required revision has been compacted", Failure.COMPACTED),
        (grpc.StatusCode.OUT_OF_RANGE, "etcdserver: too large lease TTL", Failure.REFUSED),
        (grpc.StatusCode.NOT_FOUND, "etcdserver: requested lease not found", Failure.LEASE_GONE),
        (grpc.StatusCode.NOT_FOUND, "etcdserver: something else", Failure.REFUSED),
        (grpc.StatusCode.INVALID_ARGUMENT, "etcdserver: authentication failed", Failure.REFUSED),
        (grpc.StatusCode.PERMISSION_DENIED, "etcdserver: permission denied", Failure.REFUSED),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, "etcdserver: mvcc: database space exceeded", Failure.REFUSED),
    ],
)
def test_statuses_are_told_apart(code: grpc.StatusCode, details: str, failure: Failure) -> None:
    """What to do about an error follows from its code, and from its text where etcd's codes are ambiguous."""
    assert classify(code, details) is failure


def test_the_message_says_who_and_why() -> None:
    """A person reads the member and the cause, without what C-core wraps around it."""
    details = "failed to connect to all addresses; last error: UNKNOWN: ipv4:127.0.0.1:1: Connection refused"
    error = grpc.aio.AioRpcError(grpc.StatusCode.UNAVAILABLE, grpc.aio.Metadata(), grpc.aio.Metadata(), details=details)
    translation = translated(error, "h1:2379")
    assert isinstance(translation, RegistryUnavailable)
    assert str(translation) == "etcd at h1:2379: Connection refused"
