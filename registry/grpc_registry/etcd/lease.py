"""Leases: a key that is attached to one goes away with it, and it goes away unless its owner keeps it alive."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass

from grpc_registry.etcd import v3
from grpc_registry.etcd.connection import ATTEMPT_SECONDS, Connection
from grpc_registry.etcd.failures import LeaseGone


@dataclass(frozen=True, slots=True)
class Lease:
    """A lease and the seconds that it lives without a sign of life, as granted (etcd may grant more than was asked)."""

    id: int
    ttl: int


async def grant(connection: Connection, ttl: int) -> Lease:
    """A new lease. If its answer gets lost the lease is nobody's, and expires."""
    answer = await connection.call(v3.LEASE_GRANT, v3.LeaseGrantRequest(TTL=ttl))
    return Lease(answer.ID, answer.TTL)


async def keep_alive(connection: Connection, lease: Lease, *, attempt_timeout: float = ATTEMPT_SECONDS) -> int:
    """Give the lease its full time again; returns how many seconds that is, from when etcd got to know.

    Each sign of life is a stream of its own with its own deadline: cheap at one every few seconds, and nothing can be
    waited for in vain on a stream that is dead but does not know it. Raises `LeaseGone`.
    """
    request = v3.LeaseKeepAliveRequest(ID=lease.id)
    answer = await connection.call(v3.LEASE_KEEP_ALIVE, request, attempt_timeout=attempt_timeout)
    if answer.TTL <= 0:
        raise LeaseGone(f"lease {lease.id:x} expired or was revoked")
    return int(answer.TTL)


async def revoke(connection: Connection, lease_id: int) -> None:
    """End the lease and delete its keys. A lease that is gone already is fine."""
    with contextlib.suppress(LeaseGone):
        await connection.call(v3.LEASE_REVOKE, v3.LeaseRevokeRequest(ID=lease_id))


async def granted_ttl(connection: Connection, lease_id: int) -> int:
    """The seconds that the lease was granted for; 0 if it is gone."""
    answer = await connection.call(v3.LEASE_TIME_TO_LIVE, v3.LeaseTimeToLiveRequest(ID=lease_id))
    return int(answer.grantedTTL) if answer.TTL > 0 else 0
