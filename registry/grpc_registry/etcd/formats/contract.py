"""What a format is. It is a value: hashable, equal to another with the same settings."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from grpc_registry.etcd.naming import Decoded
from grpc_registry.instance import Instance


@runtime_checkable
class Format(Protocol):
    """Where an instance stands in etcd, and as what. Pure: it reads and writes bytes, and nothing else."""

    def prefix(self, service: str) -> bytes:
        """What the keys of all instances of `service`, and no others, begin with. It ends with a slash."""

    def key(self, service: str, instance_id: str, lease: int) -> bytes:
        """The key of an instance that is registered under `lease`."""

    def value(self, instance: Instance) -> bytes:
        """What stands at the key. Raises `InvalidInstance` if the format cannot say it."""

    def parse(self, key: bytes) -> tuple[str, str]:
        """The service and the instance id that `key` names. Raises `InvalidInstance` if it is no such key."""

    def decode(self, service: str, instance_id: str, value: bytes) -> Decoded:
        """What `value` says. Raises `InvalidInstance` if it has no usable address."""
