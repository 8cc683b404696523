"""Where things are in etcd: instances at `{prefix}/{service}/{id}`, service configs at `{prefix}:config/{service}`."""

from __future__ import annotations

from dataclasses import dataclass

from grpc_registry.errors import InvalidInstance
from grpc_registry.etcd.kv import KeyRange
from grpc_registry.etcd.naming import Decoded, decode
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

    def config(self, service: str) -> bytes:
        """The key of the config of `service`. It is outside of `everything`."""
        return f"{self.prefix}:config/{check_name(service, 'service')}".encode()

    def parse(self, key: bytes) -> tuple[str, str]:
        """The service and the instance id that `key` names. Raises `InvalidInstance` if it is not such a key."""
        try:
            rest = key.decode().removeprefix(f"{self.prefix}/")
        except UnicodeDecodeError:
            raise InvalidInstance("the key is not UTF-8") from None
        service, _, instance_id = rest.partition("/")
        return check_name(service, "service"), check_id(instance_id)

    def decode(self, service: str, instance_id: str, value: bytes) -> Decoded:
        """What `value` says, in the format of etcd's naming. Raises `InvalidInstance` if it has no usable address."""
        return decode(service, instance_id, value)
