"""The format of go-zero's discovery in etcd (github.com/zeromicro/go-zero, core/discov, v1.9).

    product/7587895842170138120
    10.0.0.1:50051

The key is what a go-zero service has as `Key` in its configuration, a slash, and the lease in decimal; the value is an
address and nothing else. So of an instance only its address gets through: no weight, no zone, and its id is the lease.
"""

from __future__ import annotations

from dataclasses import dataclass

from grpc_registry.errors import InvalidInstance
from grpc_registry.etcd.naming import Decoded
from grpc_registry.instance import Instance, check_id, check_name

_SERVICE = "{service}"


@dataclass(frozen=True, slots=True)
class GoZero:
    """`name` is the `Key` of a service in go-zero's configurations, such as `{service}.rpc` where goctl made them."""

    name: str = _SERVICE

    def __post_init__(self) -> None:
        if self.name.count(_SERVICE) != 1 or self.name.endswith("/"):
            raise ValueError(f"name {self.name!r}: has {_SERVICE} in it, once, and no '/' at its end")

    def prefix(self, service: str) -> bytes:
        return f"{self.name.replace(_SERVICE, service)}/".encode()

    def key(self, service: str, instance_id: str, lease: int) -> bytes:
        return self.prefix(service) + str(lease).encode()

    def value(self, instance: Instance) -> bytes:
        return instance.address.encode()

    def parse(self, key: bytes) -> tuple[str, str]:
        try:
            name, _, instance_id = key.decode().rpartition("/")
        except UnicodeDecodeError:
            raise InvalidInstance("the key is not UTF-8") from None
        before, _, after = self.name.partition(_SERVICE)
        if not (name.startswith(before) and name.endswith(after)):
            raise InvalidInstance(f"the key is not {self.name}/ and a lease")
        service = name.removeprefix(before).removesuffix(after)
        return check_name(service, "service"), check_id(instance_id)

    def decode(self, service: str, instance_id: str, value: bytes) -> Decoded:
        return Decoded(Instance(service, value.decode(errors="replace"), id=instance_id))
