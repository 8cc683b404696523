"""Where things are in etcd: `{prefix}/{service}/{instance_id}`."""

from __future__ import annotations

from dataclasses import dataclass

from grpc_registry.errors import InvalidInstance
from grpc_registry.etcd.kv import KeyRange
from grpc_registry.instance import check_id, check_name


@dataclass(frozen=True, slots=True)
class Keyspace:
    """The keys under one prefix."""

    prefix: str

    def instance(self, service: str, instance_id: str) -> bytes:
        """The key of an instance."""
        return f"{self.prefix}/{service}/{instance_id}".encode()

    def service(self, service: str) -> KeyRange:
        """The keys of all instances of `service`."""
        return KeyRange.under(f"{self.prefix}/{service}/".encode())

    def everything(self) -> KeyRange:
        """The keys of all instances."""
        return KeyRange.under(f"{self.prefix}/".encode())

    def parse(self, key: bytes) -> tuple[str, str]:
        """The service and the instance id that `key` names. Raises `InvalidInstance` if it is not such a key."""
        try:
            rest = key.decode().removeprefix(f"{self.prefix}/")
        except UnicodeDecodeError:
            raise InvalidInstance("the key is not UTF-8") from None
        service, _, instance_id = rest.partition("/")
        return check_name(service, "service"), check_id(instance_id)
