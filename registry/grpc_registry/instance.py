"""What the registry holds: an `Instance`, and the two things one can know about a service.

A service is a logical name. An instance is one registered process of it. Both are values: a change makes a new one.
"""

from __future__ import annotations

import enum
import json
import re
import secrets
from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass, field
from ipaddress import ip_address
from types import MappingProxyType
from typing import Any

from grpc_registry.errors import InvalidInstance

DEFAULT_WEIGHT = 100
MAX_WEIGHT = 1_000_000
RESERVED_METADATA = frozenset({"weight", "state", "zone", "version", "host"})

_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,126}[A-Za-z0-9])?")
_ID = re.compile(r"[!-.0-~]{1,128}")  # other clients of etcd's naming use an address as the id, and so a ':' or a '['
_ADDRESS = re.compile(r"(?P<host>\[[0-9A-Fa-f:.%]+\]|[^\s:/\[\]]+):(?P<port>[0-9]{1,5})|unix:\S+")


class State(enum.StrEnum):
    """Whether clients may pick an instance for new calls."""

    SERVING = "serving"
    DRAINING = "draining"


def new_instance_id() -> str:
    """A random id of 16 hex digits, unique for practical purposes, fit for an etcd key."""
    return secrets.token_hex(8)


def check_name(name: object, what: str) -> str:
    """Return `name` if it may be part of a key, else raise `InvalidInstance` naming `what`."""
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise InvalidInstance(
            f"{what} {name!r}: 1 to 128 letters, digits, '.', '_' or '-', beginning and ending with a letter or digit"
        )
    return name


def check_id(instance_id: object) -> str:
    """Return `instance_id` if it may end a key, else raise `InvalidInstance`."""
    if not isinstance(instance_id, str) or not _ID.fullmatch(instance_id):
        raise InvalidInstance(f"instance id {instance_id!r}: 1 to 128 ASCII characters, no '/' and no space")
    return instance_id


def check_weight(weight: object) -> int:
    """Return `weight` if it is an int of 1 to 1,000,000, else raise `InvalidInstance`."""
    if isinstance(weight, bool) or not isinstance(weight, int) or not 1 <= weight <= MAX_WEIGHT:
        raise InvalidInstance(f"weight {weight!r}: a whole number from 1 to {MAX_WEIGHT:,}")
    return weight


def check_address(address: object) -> str:
    """Return `address` if it is `host:port`, `[v6]:port` or `unix:path`, else raise `InvalidInstance`."""
    if (
        isinstance(address, str)
        and (match := _ADDRESS.fullmatch(address))
        and (match["port"] is None or 1 <= int(match["port"]) <= 65535)
    ):
        if match["host"] and _is_wildcard(match["host"]):
            raise InvalidInstance(f"address {address!r}: is where a server listens, not what others can dial")
        return address
    raise InvalidInstance(f"address {address!r}: host:port with a port from 1 to 65535, [v6]:port, or unix:path")


def _is_wildcard(host: str) -> bool:
    try:
        return ip_address(host.strip("[]")).is_unspecified
    except ValueError:  # a name
        return False


def check_metadata(metadata: object) -> Mapping[str, Any]:
    """Return a read-only copy of `metadata`, if it is JSON and no field of `Instance`, else raise `InvalidInstance`."""
    if not isinstance(metadata, Mapping) or not all(isinstance(key, str) for key in metadata):
        raise InvalidInstance(f"metadata {metadata!r}: a mapping with text as keys")
    if taken := RESERVED_METADATA & metadata.keys():
        raise InvalidInstance(f"metadata {min(taken)!r}: is a field of the instance itself")
    try:
        json.dumps(dict(metadata), allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidInstance(f"metadata cannot be written as JSON: {error}") from None
    return MappingProxyType(dict(metadata))


def check_state(state: object) -> State:
    """Return `state` as a `State`, else raise `InvalidInstance`."""
    if isinstance(state, str) and state in tuple(State):
        return State(state)
    raise InvalidInstance(f"state {state!r}: 'serving' or 'draining'")


@dataclass(frozen=True, slots=True)
class Instance:
    """One process of a service, as clients see it.

    `address` is what clients dial; `weight` is relative to the other instances' (default 100); `zone` and `host` say
    where it runs; `version` which build it is. `metadata` holds every other field of the registered JSON, as it came.

    Raises:
        InvalidInstance: a field breaks the contract.
    """

    service: str
    address: str
    _: KW_ONLY
    id: str = field(default_factory=new_instance_id)
    weight: int = DEFAULT_WEIGHT
    state: State = State.SERVING
    zone: str = ""
    version: str = ""
    host: str = ""
    metadata: Mapping[str, Any] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        check_name(self.service, "service")
        check_id(self.id)
        check_address(self.address)
        check_weight(self.weight)
        object.__setattr__(self, "state", check_state(self.state))
        for name in ("zone", "version", "host"):
            if not isinstance(getattr(self, name), str):
                raise InvalidInstance(f"{name} {getattr(self, name)!r}: text")
        object.__setattr__(self, "metadata", check_metadata(self.metadata))


def check_instance(instance: object) -> Instance:
    """Return `instance` if it is an `Instance`, else raise `TypeError`."""
    if not isinstance(instance, Instance):
        raise TypeError(f"{instance!r}: an Instance, such as Instance('product', '10.0.0.1:50051')")
    return instance


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All instances of a service at a revision of the registry.

    `stale`: the registry cannot be reached; this is the last that was known, and it stays so for as long as that lasts.
    `relisted`: read anew after a break (an outage, a compaction, a wiped store), not folded from events; whoever holds
    connections should confirm by connectivity before it believes that many instances went away at once.
    """

    service: str
    revision: int
    instances: tuple[Instance, ...]
    stale: bool = False
    relisted: bool = False


@dataclass(frozen=True, slots=True)
class Unresolved:
    """Nothing is known of the service yet, since the registry has not answered; `reason` says why, for a person."""

    service: str
    reason: str


Resolution = Snapshot | Unresolved
