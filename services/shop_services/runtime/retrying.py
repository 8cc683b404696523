"""Which calls between our processes are made again after a failure that their server may have had a part in.

The protos say it, by the standard option of an RPC: `idempotency_level = NO_SIDE_EFFECTS` or `IDEMPOTENT`. What has no
such option may do its work twice if it is repeated (a mutation without a request id, say) and is left alone; nobody
writes a list of methods here.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from importlib.resources import files
from typing import Any

from google.protobuf.descriptor_pb2 import FileDescriptorProto, FileDescriptorSet, MethodOptions

RETRY_POLICY = {
    "maxAttempts": 4,
    "initialBackoff": "0.05s",
    "maxBackoff": "1s",
    "backoffMultiplier": 2,
    "retryableStatusCodes": ["UNAVAILABLE", "CANCELLED"],
}
"""Three more attempts within some 0.4 s: a crashed instance has been left by then, a restarting one may be back.
CANCELLED is how gRPC's core ends calls that reach a server which has begun to stop; what we cancel is not repeated."""

RETRY_THROTTLING = {"maxTokens": 200, "tokenRatio": 0.1}
"""Per channel: a crash fails all calls in flight there at once, so a hundred failures in a row are no storm yet; more,
while fewer than ten calls succeed for each that fails, are one, and are not repeated."""


def service_config() -> dict[str, Any]:
    """The gRPC service config for a channel to any service of the shop.

    Its health is watched, so that a server can drain while the registry is away.
    """
    return {**retry_config(), "healthCheckConfig": {"serviceName": ""}}


@cache
def retry_config() -> dict[str, Any]:
    """The part of it that says what is repeated."""
    described = FileDescriptorSet.FromString((files("shop") / "descriptors.binpb").read_bytes())
    return {
        "methodConfig": [{"name": idempotent_methods(described.file), "retryPolicy": RETRY_POLICY}],
        "retryThrottling": RETRY_THROTTLING,
    }


def idempotent_methods(described: Iterable[FileDescriptorProto]) -> list[dict[str, str]]:
    """The names of the RPCs that may be repeated, as a service config has them."""
    return [
        {"service": f"{file.package}.{service.name}", "method": method.name}
        for file in described
        for service in file.service
        for method in service.method
        if method.options.idempotency_level != MethodOptions.IDEMPOTENCY_UNKNOWN
    ]
