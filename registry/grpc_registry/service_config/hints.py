"""What is allowed in a service config, but hardly meant. A client that is older or newer than `meshctl` may know more
fields, so an unknown one cannot be refused; a person who mistyped one should hear of it."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any

from grpc_registry.service_config.json_fields import load
from grpc_registry.service_config.model import RingHash
from grpc_registry.service_config.parsing import parse

# service_config.proto
_FIELDS = ("loadBalancingConfig", "loadBalancingPolicy", "methodConfig", "retryThrottling", "healthCheckConfig")
_METHOD_FIELDS = (
    "name",
    "timeout",
    "waitForReady",
    "retryPolicy",
    "hedgingPolicy",
    "maxRequestMessageBytes",
    "maxResponseMessageBytes",
)


def hints(text: str, policies: Collection[str]) -> Iterator[str]:
    """A line for each unknown field of a service config, and for a `ring_hash` that hashes nothing.

    Raises:
        InvalidServiceConfig: as `parse` does.
    """
    balancing = parse(text, policies).balancing
    if balancing is not None and isinstance(balancing.settings, RingHash) and not balancing.settings.header:
        yield "ring_hash without requestHashHeader: each call goes to a random instance"
    config = load(text)
    yield from _unknown(config, "", _FIELDS)
    for number, entry in enumerate(config.get("methodConfig") or ()):
        yield from _unknown(entry, f"methodConfig[{number}].", _METHOD_FIELDS)


def _unknown(fields: Mapping[str, Any], path: str, known: tuple[str, ...]) -> Iterator[str]:
    for name in fields:
        if name not in known:
            yield f"{path}{name}: is no known field, and ignored (known: {', '.join(known)})"
