"""What an error from etcd means: the one place where gRPC's statuses become this package's exceptions."""

from __future__ import annotations

import enum
import re

import grpc

from grpc_registry.errors import RegistryError, RegistryRefused, RegistryUnavailable


class Compacted(RegistryError):
    """The revision asked for is no longer, or not yet, in the store: read it anew."""


class LeaseGone(RegistryError):
    """The lease is not known to etcd, or counts as lost: take another."""


class StaleToken(RegistryRefused):
    """The token is not, or no longer, good: authenticate again."""


class Failure(enum.Enum):
    """The kinds of failure that are handled differently."""

    ELSEWHERE = enum.auto()  # this member cannot answer now, another may
    STALE_TOKEN = enum.auto()
    COMPACTED = enum.auto()
    LEASE_GONE = enum.auto()
    REFUSED = enum.auto()  # asking again, or elsewhere, gives the same


_EXCEPTIONS: dict[Failure, type[RegistryError]] = {
    Failure.ELSEWHERE: RegistryUnavailable,
    Failure.STALE_TOKEN: StaleToken,
    Failure.COMPACTED: Compacted,
    Failure.LEASE_GONE: LeaseGone,
    Failure.REFUSED: RegistryRefused,
}


# What C-core puts before a cause: "failed to connect to all addresses; last error: UNKNOWN: ipv4:127.0.0.1:1: …"
_WRAPPING = re.compile(r"^failed to connect to all addresses; last error: (?:[A-Z]+: )?(?:ipv[46]:\S+: )?")


def classify(code: grpc.StatusCode, details: str) -> Failure:
    """Which failure a status of etcd is.

    etcd sets codes with care, but some of its errors share theirs with others and are told apart by their text.
    """
    match code:
        case grpc.StatusCode.UNAUTHENTICATED:
            return Failure.STALE_TOKEN
        case grpc.StatusCode.INVALID_ARGUMENT if "auth store is old" in details:
            return Failure.STALE_TOKEN
        case grpc.StatusCode.OUT_OF_RANGE if "TTL" in details:  # "etcdserver: too large lease TTL"
            return Failure.REFUSED
        case grpc.StatusCode.OUT_OF_RANGE:
            return Failure.COMPACTED
        case grpc.StatusCode.NOT_FOUND if "lease not found" in details:
            return Failure.LEASE_GONE
        case (
            grpc.StatusCode.INVALID_ARGUMENT
            | grpc.StatusCode.FAILED_PRECONDITION
            | grpc.StatusCode.PERMISSION_DENIED
            | grpc.StatusCode.NOT_FOUND
            | grpc.StatusCode.RESOURCE_EXHAUSTED
            | grpc.StatusCode.UNIMPLEMENTED
        ):
            return Failure.REFUSED
        case _:
            return Failure.ELSEWHERE


def translated(error: grpc.aio.AioRpcError, member: str) -> RegistryError:
    """The exception that stands for `error` of `member` in this package."""
    details = error.details() or error.code().name
    return _EXCEPTIONS[classify(error.code(), details)](f"etcd at {member}: {_WRAPPING.sub('', details)}")
