"""Which instance of the cache service has which key: the one place that says so, to callers and to the instances alike.

A key belongs to an instance by `ring_hash` over the header `x-cache-key`. The ring is pinned here, and does not follow
the registry's service config, since all must agree on it: another policy in the config, or a zone that is preferred,
would send the same key elsewhere from here than from there.

Who asks need not be right about the owner. An instance that is asked for a key of another's passes the call on, once:
`x-cache-routed` tells the next one to answer for itself, whatever it thinks, so that no call goes in circles.
"""

from __future__ import annotations

import random
import time
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import quote

from grpc_balancer import FAST_KEEPALIVE, Channel, Load
from grpc_balancer.pickers.ring_hash import ring_hash
from grpc_registry import Instance, Resolver, TlsFiles
from grpc_registry.service_config import RingHash
from shop_services.runtime.retrying import retry_config

SERVICE: Final = "cache"
"""What the cache service is called in the registry."""

KEY_HEADER: Final = "x-cache-key"
"""The header that says which key a call is for: the namespace and the key, see `key_header`."""

ROUTED_HEADER: Final = "x-cache-routed"
"""The header of a call that one instance has passed to another, which is to answer it itself."""

# Without a bound on load: a key that is passed on while its owner is busy would be in two places. From one point on,
# so that each instance has the same points in any company, and who leaves one out gets no other ring of the rest.
_RING: Final = RingHash(KEY_HEADER, min_ring_size=1, load_factor=0)
POLICY: Final[dict[str, Any]] = {
    "ring_hash": {"requestHashHeader": _RING.header, "minRingSize": _RING.min_ring_size, "loadFactor": 0}
}


def key_header(namespace: str, key: str) -> tuple[str, str]:
    """The header that sends a call to the owner of `key`; percent-encoded, since headers carry printable ASCII."""
    return KEY_HEADER, quote(f"{namespace}/{key}", safe="/:.-_~@,=+*!$&'()")


def ring_channel(resolver: Resolver, *, retries: bool = True, tls: TlsFiles | None = None) -> Channel:
    """A channel to the cache service for calls with `key_header`: each goes to the owner of its key.

    It is open to all of the registry's instances alike, wherever they are, and none is ejected for its failures: that
    would be this caller's own opinion, which others do not share; so would be its health. Of a dead one the connection
    tells. With `retries` a call that failed for its instance is made again, if the protos allow it, at the next one
    clockwise.
    """
    return Channel(
        SERVICE,
        resolver,
        policy=POLICY,
        service_config=retry_config() if retries else None,
        watch_config=False,
        outlier_detection=None,
        slow_start=0,
        credentials=tls,
        options=FAST_KEEPALIVE,
    )


class Ring:
    """The ring of these instances, as a channel with `POLICY` has it whose endpoints they are. Immutable."""

    def __init__(self, instances: Collection[Instance] = ()) -> None:
        self.members = frozenset((one.id, one.address, one.weight) for one in instances)
        """What makes it this ring and no other."""
        # Nothing is drawn from the rng: every call has a key.
        self._picker: Any = ring_hash(_RING)([_Place(one) for one in instances], random.Random()) if instances else None

    def owner(self, namespace: str, key: str) -> Instance | None:
        """The instance that the key belongs to; None if there are none at all."""
        if self._picker is None:
            return None
        owner: Instance = self._picker.owner(_Call([key_header(namespace, key)])).instance
        return owner

    def __repr__(self) -> str:
        return f"<Ring of {', '.join(sorted(instance_id for instance_id, _, _ in self.members)) or 'nobody'}>"


@dataclass(frozen=True, slots=True)
class _Place:
    """A `Candidate` that is not an endpoint."""

    instance: Instance
    weight: int = 1
    load: Load = field(default_factory=lambda: Load(time.monotonic))


@dataclass(frozen=True, slots=True)
class _Call:
    metadata: list[tuple[str, str | bytes]]
    method: str = ""
