"""Calls as HTTP/2: which RPC, with which fields and messages, before anything is done to them."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import cast

from google.protobuf.descriptor import MethodDescriptor
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2

from fuzzing.frames import http2
from fuzzing.messages import filled
from shop.product.v1 import inventory_pb2, product_pb2

_SERVICES = (
    product_pb2.DESCRIPTOR.services_by_name["ProductService"],
    inventory_pb2.DESCRIPTOR.services_by_name["InventoryService"],
    health_pb2.DESCRIPTOR.services_by_name["Health"],
    reflection_pb2.DESCRIPTOR.services_by_name["ServerReflection"],
)
RPCS: Sequence[MethodDescriptor] = [cast("MethodDescriptor", rpc) for service in _SERVICES for rpc in service.methods]
"""The RPCs of the product service's server: unary ones and streams of both kinds, with and without a rule of access."""

Fields = list[tuple[bytes, bytes]]


TOKEN = b"@" * 334
"""What stands for a good token, and is as long as one: conversations are made, and kept, without knowing any."""


class Calls:
    """Makes calls."""

    def fields(self, rng: Random, rpc: MethodDescriptor | None = None) -> Fields:
        """The fields of a request to an RPC, any if none is given; most with a token."""
        rpc = rpc or rng.choice(RPCS)
        fields = [
            (b":method", b"POST"),
            (b":scheme", b"http"),
            (b":path", f"/{rpc.containing_service.full_name}/{rpc.name}".encode()),
            (b":authority", b"127.0.0.1"),
            (b"te", b"trailers"),
            (b"content-type", b"application/grpc"),
            (b"grpc-timeout", rng.choice((b"5S", b"200m"))),
        ]
        return [*fields, (b"authorization", b"Bearer " + TOKEN)] if rng.random() < 0.7 else fields

    def payload(self, rng: Random, rpc: MethodDescriptor) -> bytes:
        """A request of that RPC, serialized."""
        data: bytes = filled(rng, rpc.input_type).SerializeToString(deterministic=True)
        return data

    def whole(self, rng: Random, stream: int, rpc: MethodDescriptor | None = None) -> bytes:
        """A call on that stream: its HEADERS and its DATA."""
        rpc = rpc or rng.choice(RPCS)
        head = http2.frame(http2.Kind.HEADERS, http2.END_HEADERS, stream, http2.block(self.fields(rng, rpc)))
        data = http2.message(self.payload(rng, rpc))
        return head + http2.frame(http2.Kind.DATA, http2.END_STREAM, stream, data)
